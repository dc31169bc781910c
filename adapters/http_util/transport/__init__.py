"""HTTP/1.1 connections, their pool, and the httpx client built on them."""
