"""Long runs: jobs in, frames out, and the state folder."""
