"""All four stages as a job: ``ray job submit --working-dir . -- python jobs/pipeline.py CONFIG [--key VALUE]``."""

from unet_ray.cli import run_stage

if __name__ == "__main__":
    raise SystemExit(run_stage("pipeline"))
