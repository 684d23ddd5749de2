# ERROR: No pipeline
edge {}
