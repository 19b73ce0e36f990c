"""The report page of a run, and its TensorBoard events; reads run folders, measures nothing."""
