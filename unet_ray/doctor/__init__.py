"""Whether the environment is fit for a job: packages, this machine, the store, the cluster."""
