"""The speech service as the backend and the lab know it: its one endpoint, and how it answers.

    POST /speech/assess   a WAV file          {"score": 73.4}     200
                          anything else       {"error": …}        415; empty 400
    GET  /health                              {"status": "ok"}    200

The service imports this module, and must be light: it imports nothing itself.
"""

from __future__ import annotations

SPEECH_PATH = "/speech/assess"
SPEECH_HEALTH_PATH = "/health"

SPEECH_TIMEOUT_S = 10.0
"""Real-world seconds for which the backend waits for an answer, before it gives an assessment up:
three times as long as the service usually takes."""
