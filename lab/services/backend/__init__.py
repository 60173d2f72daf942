"""The upload service of the incident report, written as its authors wrote it.

A knob changes only the behaviour that it names; without any, this is the code as found.

    main.py                   the application: rate limits, /health, what runs beside it
    api/students.py           POST /api/students/upload-recording, its five steps
    api/assessments.py        POST /api/students/assess-pronunciation
    api/conversion.py         POST /api/students/convert-recording
    api/progress.py           GET /api/students/progress
    api/deps.py               what they share: the file, the token, where queries run (db_call)
    services/authentication.py  whose token it is
    services/audio_upload.py  the call to storage, and where it runs (gcs_call)
    services/speech.py        the call to the speech service, in the speech threads
    services/conversion.py    resampling, in the audio threads (convert_call)
    database.py               tables, engine, pool and sessions (pool_*, db_*)
    core/thread_pool.py       the pools of threads (*_threads)
    core/middleware.py        Server-Timing, backpressure and the rate limiter
    core/problems.py          errors as RFC 9457 problem details, each with its cause
    core/evidence.py          what a worker measures about itself and its event loop
    core/leak.py              a deliberate leak (leak)
"""
