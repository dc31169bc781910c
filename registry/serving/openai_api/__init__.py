"""OpenAI's API as data, without I/O: requests become jobs; answers and failures get its shapes."""
