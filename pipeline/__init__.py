"""From edit requests to a dataset: four stages, generators over rows, run part by part. No Prefect, no torch at import.

`build.py` makes the stages from the settings in `config.py`. `run/` is how a build lies on disk and what does its work,
`stages/` the four generators. They rest on `requests/` (files, scenes, instructions), `editors/`, `regions/`, `gates/`
and `models/` (detectors and segmenters). `dataset/` exports and verifies the tars, `report/` writes the page.
"""
