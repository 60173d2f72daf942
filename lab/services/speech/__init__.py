"""The speech service: scores how well a recording was pronounced, by what is in it.

It stands for a recogniser that is 1-3 s away. It knows nothing of that: the distance is a toxic of
the proxy before it (``speech_latency``). `lab.model.speech` tells its endpoints.
"""
