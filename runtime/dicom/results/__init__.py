"""Results of a series as DICOM objects: a structured report, and a picture of its highest slice."""
