"""Detectors, prompted segmenters and a client of chat models: Protocols, the registry, and a file for each adapter.

| what | where |
|---|---|
| what an adapter has to offer | `protocols.py` |
| specs, and the model of a spec, kept in memory | `registry.py`, `cache.py` |
| an adapter of a detector | `groundingdino.py`, `groundingdino_transformers.py`, `sam3_text.py` |
| an adapter of a prompted segmenter | `sam.py`, `sam_transformers.py` |
| parts of `sam.py` | `sam_architectures.py`, `sam_checkpoint.py`, `sam_forward.py`, `sam_inputs.py` |
| parts of `groundingdino.py` | `groundingdino_keys.py` |
| what adapters share | `batches.py`, `checkpoint.py`, `detections.py`, `devices.py`, `grounding.py` |
| small holes and islands of a mask | `mask_cleaning.py` |
| a published checkpoint in another format | `convert.py` |
| a chat completion over HTTP | `chat_http.py`, `chat_settings.py` |
"""
