"""DICOM over the network: what receives, and the folder where it is kept until it is scored."""
