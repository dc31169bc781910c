"""Bulk runs on a Ray cluster: a stage for Ray Data's pipelines. Extra: `[ray]`."""

from registry.batch.ray.stage import stage

__all__ = ["stage"]
