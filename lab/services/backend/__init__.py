"""The upload service of the incident report, written as its authors wrote it.

Each knob changes the one behaviour it names; without any, this is the code as found.

    main.py                  the application: middleware, errors, /health
    api/students.py          POST /api/students/upload-recording, its five steps
    services/authentication  step 1: whose token is this?
    services/audio_upload.py step 3: the call to storage, and where it runs (gcs_call)
    services/progress.py     step 5: the write
    database.py              engine, pool and sessions (pool_*, db_*)
    core/                    threads, rate limits, backpressure, timings, errors, evidence
"""
