"""Reports, tables and figures of an evaluation."""
