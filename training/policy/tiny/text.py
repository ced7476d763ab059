"""The tiny policy's reading: a byte-pair tokenizer of instructions and a two-layer Qwen3, FLUX.2-klein's own class."""

import json

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3ForCausalLM

from pipeline.requests.scenes import PLAIN, scene_at
from training.policy.edit_cases import SIZE_PX

HIDDEN = 64
#: Hidden states of the text encoder that the transformer reads, side by side.
TEXT_LAYERS = (0, 1, 2)
#: Tokens of an instruction; the longest of a plain scene has fewer.
TEXT_TOKENS = 32
_END = "<|endoftext|>"
_VOCABULARY = 384
#: The words alone: no roles, no thinking.
_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def new_tokenizer(seed: int, count: int) -> Qwen2TokenizerFast:
    """A tokenizer fitted to the instructions of `count` plain scenes: bytes at the bottom, so any text can be read."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY, special_tokens=[_END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    lines = (scene_at(seed, index, SIZE_PX, textures=(PLAIN,))[0] for index in range(count))
    bpe.train_from_iterator((line.instruction for line in lines), trainer)
    fitted = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in fitted["merges"]]
    return Qwen2TokenizerFast(vocab=fitted["vocab"], merges=merges, chat_template=_TEMPLATE)


def new_text_encoder(tokenizer: Qwen2TokenizerFast) -> Qwen3ForCausalLM:
    """An untrained text encoder for the tokenizer's vocabulary."""
    end = tokenizer.convert_tokens_to_ids(_END)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    return Qwen3ForCausalLM(config)
