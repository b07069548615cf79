"""report.html: what a run was and did, as one page that needs nothing else; it is made of the files of the run."""
