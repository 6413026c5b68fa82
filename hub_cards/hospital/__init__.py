"""What a hospital's systems store of a report: a structured form, FHIR, DICOM SR and heat maps. `python -m
hub_cards.hospital --help`; README.md beside this file. Research only, never for clinical use."""
