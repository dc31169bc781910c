"""A model of some 100,000 random weights that llama.cpp loads: nonsense, but real inference."""

from pathlib import Path

import gguf
import numpy as np

CONTEXT = 4096
_FIRST_BYTE = 3
_WIDTH, _LAYERS, _HEADS, _FEED_FORWARD = 64, 2, 2, 128
_WORDS = ("hello", "world", "the", "and", "of", "to", "in", "a", "is", "on", "upon", "time")


def write_tiny_gguf(path: Path, seed: int = 7) -> Path:
    """Write the model to `path`; the same seed gives the same file. Returns the path.

    Its likeliest tokens, those that samplers consider (top_k), are printable ASCII.
    """
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    vocabulary = _add_tokenizer(writer)
    _add_weights(writer, vocabulary, np.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter) -> int:
    """A SentencePiece vocabulary of all bytes and a few words; returns its size."""
    pieces = [("<unk>", gguf.TokenType.UNKNOWN), ("<s>", gguf.TokenType.CONTROL)]
    pieces.append(("</s>", gguf.TokenType.CONTROL))
    pieces += [(f"<0x{byte:02X}>", gguf.TokenType.BYTE) for byte in range(256)]
    for word in _WORDS:
        pieces += [(word, gguf.TokenType.NORMAL), ("\u2581" + word, gguf.TokenType.NORMAL)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in pieces])
    writer.add_token_scores([-float(i) for i in range(len(pieces))])
    writer.add_token_types([kind for _, kind in pieces])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    return len(pieces)


def _add_weights(writer: gguf.GGUFWriter, vocabulary: int, rng: "np.random.Generator") -> None:
    def matrix(name: str, rows: int, columns: int) -> None:
        weights = rng.normal(0.0, 0.25, (rows, columns)).astype(np.float32)
        if name == "output.weight":
            weights[: _FIRST_BYTE + 0x20] = 0.0  # never the end of the text, nor a control byte
            weights[_FIRST_BYTE + 0x7F : _FIRST_BYTE + 0x100] = 0.0  # nor half a character
        writer.add_tensor(name, weights)

    def norm(name: str) -> None:
        writer.add_tensor(name, np.ones(_WIDTH, dtype=np.float32))

    matrix("token_embd.weight", vocabulary, _WIDTH)
    matrix("output.weight", vocabulary, _WIDTH)
    norm("output_norm.weight")
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm.weight")
        norm(f"{block}.ffn_norm.weight")
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"{block}.{part}.weight", _WIDTH, _WIDTH)
        matrix(f"{block}.ffn_gate.weight", _FEED_FORWARD, _WIDTH)
        matrix(f"{block}.ffn_up.weight", _FEED_FORWARD, _WIDTH)
        matrix(f"{block}.ffn_down.weight", _WIDTH, _FEED_FORWARD)
