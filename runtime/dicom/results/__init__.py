"""Results of a series as DICOM objects: a structured report, a picture and a map."""
