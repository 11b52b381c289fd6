"""``python -m unet_ray``: the command line where the package is and its script is not, as in a submitted job."""

from unet_ray.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
