"""Prediction of projections: the distance, the options and the student that BYOL's relatives share."""
