"""The passage index: its scores equal one block-masked pass, and each passage is read once, alone."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import logging
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from at2_prune.attention.hooks import enable_attention_reading, listening
from at2_prune.errors import CacheError, ModelNotSupportedError
from at2_prune.models.language_model import LanguageModel
from at2_prune.passage_index.features import Unit, link_features, links_from, question_features, question_sums
from at2_prune.passage_index.index import PassageIndex
from at2_prune.passage_index.layout import PIECE_TOKENS, encode_head, encode_question, split_passage, units_of
from at2_prune.passage_index.records import PieceRecord, Vectors, pack, unpack
from at2_prune.passage_index.sources import source_units
from at2_prune.passage_index.stores import Key, MemoryStore
from at2_prune.passages import Passage

from .cases import PASSAGES, QUESTION

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from families import build

FAMILIES = {
    "llama": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 16},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 16, "attn_logit_softcapping": 5.0, "sliding_window": 64},
    "gemma3_text": {"num_key_value_heads": 1, "head_dim": 16, "sliding_window": 64},
    "gpt_oss": {"num_key_value_heads": 2, "head_dim": 16, "num_local_experts": 2, "num_experts_per_tok": 1},
    "phi3": {"num_key_value_heads": 2, "pad_token_id": 0},
}


def index_of(lm: LanguageModel, precision: str = "float32", **options: object) -> PassageIndex:
    return PassageIndex(lm, (0, 1), (1,), precision, **{"store": MemoryStore(), **options})  # type: ignore[arg-type]


def units_for(index: PassageIndex, passages: list[Passage]) -> list[Unit]:
    texts = [passage.text for passage in passages]
    return source_units(index, passages, list(range(len(texts))), texts)[0]


def family_model(name: str, vocabulary: int) -> torch.nn.Module:
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model(name, vocab_size=vocabulary, **{**sizes, **FAMILIES[name]})
    torch.manual_seed(0)
    eager = name in ("gemma2", "gpt_oss")
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager" if eager else "sdpa").eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_scores_equal_one_block_masked_pass(name: str, tiny_lm: LanguageModel) -> None:
    """Head, passages and question stand in one sequence. Each text attends to the head and to itself only."""
    vocabulary = tiny_lm.model.config.vocab_size
    lm = LanguageModel(family_model(name, vocabulary), tiny_lm.tokenizer, name=name)  # type: ignore[arg-type]
    index = index_of(lm)
    passages = [dataclasses.replace(p, text=p.text[:12], title=None) for p in PASSAGES]  # within every window
    head = encode_head(lm.codec)
    texts = [split_passage(lm.codec, passage)[0].ids for passage in passages]
    asked, (start, stop) = encode_question(lm.codec, QUESTION[:6])
    blocks = [head, *texts, asked]
    ids = torch.tensor([list(itertools.chain(*blocks))])
    block = torch.tensor([i for i, text in enumerate(blocks) for _ in text])
    behind = [torch.arange(len(head)), *(torch.arange(len(text)) + len(head) for text in blocks[1:])]
    order = torch.arange(len(block))
    allowed = ((block[:, None] == block) | (block == 0)) & (order <= order[:, None])
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)[None, None]
    seen: dict[int, tuple[torch.Tensor, torch.Tensor, dict]] = {}

    def listener(module, query, key, value, attention_mask, kernel, options) -> None:  # type: ignore[no-untyped-def]
        seen[module.layer_idx] = query, key, options

    enable_attention_reading(lm.model)
    kinds = set(getattr(lm.model.config, "layer_types", None) or ["full_attention"])
    masks = mask if kinds == {"full_attention"} else dict.fromkeys(kinds, mask)
    with listening(listener), torch.inference_mode():
        lm.model(ids, attention_mask=masks, position_ids=torch.cat(behind)[None], use_cache=False)
    units = units_for(index, passages)
    found = question_features(question_sums(index.question(QUESTION[:6]), units))
    first = int((block == len(blocks) - 1).nonzero()[0])
    for layer in (0, 1):
        query, key, options = seen[layer]
        rows = slice(first + start, first + stop)
        logits = query[0, :, rows] @ key[0].repeat_interleave(query.shape[1] // key.shape[1], 0).transpose(1, 2)
        logits = logits * options["scaling"]
        if options.get("softcap"):
            logits = torch.tanh(logits / options["softcap"]) * options["softcap"]
        logits = logits.masked_fill(order > order[rows][:, None], -torch.inf).double()
        sums = torch.stack([logits[..., block == i].exp().sum(-1) / len(t) for i, t in enumerate(texts, 1)], -1)
        own = logits[..., (block == 0) | (block == len(blocks) - 1)].exp().sum(-1)
        if options.get("s_aux") is not None:
            own = own + options["s_aux"].double().exp()[:, None]
        joint = sums / (sums.sum(-1, keepdim=True) + own[..., None] / 130)
        share = sums / sums.sum(-1, keepdim=True)
        wanted = torch.stack([joint.mean(1), joint.amax(1), share.mean(1), share.amax(1)]).float()
        torch.testing.assert_close(found[:4, layer], wanted, atol=1e-5, rtol=1e-4)


def test_order_and_company_change_no_record(tiny_lm: LanguageModel) -> None:
    index = index_of(tiny_lm)
    scores = question_features(question_sums(index.question(QUESTION), units_for(index, PASSAGES)))
    turned = question_features(question_sums(index.question(QUESTION), units_for(index, PASSAGES[::-1])))
    torch.testing.assert_close(turned.flip(-1), scores, atol=1e-6, rtol=1e-5)
    alone = next(iter(index_of(tiny_lm).records(PASSAGES[1:2])))
    beside = list(index.records(PASSAGES))[1]
    torch.testing.assert_close(alone[0].keys[1].values, beside[0].keys[1].values, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "phi3-longrope", "deepseek-v32", "glm-moe-dsa"])
def test_a_long_passage_beside_a_short_one_changes_no_record(name: str, tiny_lm: LanguageModel) -> None:
    """The keys of DeepSeek V3.2 and GLM-MoE-DSA depend on the padding of the batch."""
    model = build(name, vocab_size=len(tiny_lm.tokenizer), max_position_embeddings=1024)
    lm = LanguageModel(model, tiny_lm.tokenizer, name=name)
    layers = (1, 3)
    indexes = [PassageIndex(lm, layers, layers[-1:], "float32", MemoryStore()) for _ in range(2)]
    texts = [PASSAGES[0], Passage("Ghent is a city in Flanders with canals. " * 14)]
    alone = next(iter(indexes[0].records(texts[:1])))[0]
    beside = next(iter(indexes[1].records(texts)))[0]
    for layer in layers:
        one, other = alone.keys[layer].values, beside.keys[layer].values
        torch.testing.assert_close(other, one, atol=1e-4 * float(one.abs().max()), rtol=1e-4)
    torch.testing.assert_close(beside.own[layers[-1]], alone.own[layers[-1]], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("part", ["q_proj", "k_proj"])
@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_numbers_that_are_not_finite_are_not_kept(part: str, precision: str, tiny_lm: LanguageModel) -> None:
    model = copy.deepcopy(tiny_lm.model)
    getattr(model.model.layers[1].self_attn, part).weight.data[0, 0] = torch.nan
    index = index_of(LanguageModel(model, tiny_lm.tokenizer, name="damaged"), precision)
    with pytest.raises(ModelNotSupportedError, match="damaged computes numbers that are not finite"):
        list(index.records(PASSAGES))
    assert len(index.store) == 0
    with pytest.raises(ModelNotSupportedError, match="damaged computes numbers that are not finite"):
        index.question(QUESTION)


@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_stored_numbers_that_are_not_finite_are_refused(precision: str, tiny_lm: LanguageModel) -> None:
    record = next(iter(index_of(tiny_lm, precision).records(PASSAGES[:1])))[0]
    kept = record.keys[0]
    (kept.values if kept.scale is None else kept.scale)[0, 0] = torch.nan
    with pytest.raises(CacheError, match="not finite"):
        unpack(pack([record]))


def test_links_go_both_ways(tiny_lm: LanguageModel) -> None:
    index = index_of(tiny_lm)
    units = units_for(index, PASSAGES)
    softcaps = index.softcaps(index.question(QUESTION))
    there = links_from(units, units, softcaps)  # (known, 3, layers, heads, other)
    found = link_features(units, units, softcaps)
    torch.testing.assert_close(found[:, :3], there)
    torch.testing.assert_close(found[:, 3:], there.transpose(0, -1))
    some = link_features([units[2], units[0]], units, softcaps)
    torch.testing.assert_close(some, found[[2, 0]], atol=1e-5, rtol=1e-4)
    for known in range(len(units)):
        assert not found[known, ..., known].any()


def test_no_passage_is_read_twice(tiny_lm: LanguageModel) -> None:
    index = index_of(tiny_lm)
    tokens: list[int] = []
    hook = tiny_lm.model.get_input_embeddings().register_forward_hook(
        lambda _, args, out: tokens.append(args[0].numel())
    )
    try:
        list(index.records([*PASSAGES, *PASSAGES[:2]]))
        read = len(tokens)
        assert read > 0
        list(index.records(PASSAGES[::-1]))
        assert len(tokens) == read
        index.question(QUESTION)
        head, (asked, _) = encode_head(tiny_lm.codec), encode_question(tiny_lm.codec, QUESTION)
        assert tokens[read:] == [len(head) + len(asked)]
    finally:
        hook.remove()


def test_passages_that_memory_has_are_written_to_a_folder(
    tiny_lm: LanguageModel, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process first uses no folder, and then an index in a folder. The folder must not stay empty."""
    monkeypatch.setattr("at2_prune.passage_index.index.shared_memory", MemoryStore())
    caplog.set_level(logging.INFO, logger="at2_prune.passage_index.index")
    first = list(PassageIndex(tiny_lm, (0, 1), (1,)).records(PASSAGES[:2]))
    index = PassageIndex.open(tmp_path / "index", tiny_lm, (0, 1), (1,))
    found = list(index.records(PASSAGES[:3]))
    assert caplog.messages == ["read 2 new passages of 2", "read 1 new passages of 3"]
    assert [pack(some) for some in found[:2]] == [pack(some) for some in first]
    monkeypatch.setattr("at2_prune.passage_index.index.shared_memory", MemoryStore())
    again = PassageIndex.open(tmp_path / "index", tiny_lm, (0, 1), (1,))
    assert [pack(some) for some in again.records(PASSAGES[:3])] == [pack(some) for some in found]
    assert caplog.messages[2:] == ["read 0 new passages of 3"]

    class Counted:
        """Counts the questions to a store."""

        asked = 0

        def get(self, key: Key) -> list[PieceRecord] | None:
            self.asked += 1
            return again.store.get(key)

        def add(self, records: object) -> None:
            raise AssertionError("everything is stored")

    index.store = counted = Counted()
    for _ in range(2):
        list(index.records(PASSAGES[:3]))
    assert counted.asked == 1  # for the third passage, which memory gets from the folder


def test_a_long_passage_is_cut_and_no_token_is_lost(tiny_lm: LanguageModel) -> None:
    passage = Passage("The river runs on. " * 300, title="A river")
    pieces = split_passage(tiny_lm.codec, passage)
    assert len(pieces) > 1
    assert max(len(piece.ids) for piece in pieces) <= PIECE_TOKENS
    body = [token for piece in pieces for token in piece.ids[piece.title :]]
    assert pieces[0].ids[: pieces[0].title] + body == tiny_lm.codec.plain(f"A river: {passage.text}\n")[0]
    assert [i for i, _, _ in units_of(pieces, None)] == list(range(len(pieces)))


@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_records_are_packed_exactly(tiny_lm: LanguageModel, precision: str) -> None:
    records = next(iter(index_of(tiny_lm, precision).records(PASSAGES[:1])))
    for one, other in zip(records, unpack(pack(records)), strict=True):
        assert (one.title, one.tokens, one.nbytes) == (other.title, other.tokens, other.nbytes)
        for layer, vectors in one.keys.items():
            assert torch.equal(vectors.restored(), other.keys[layer].restored())
    with pytest.raises(CacheError, match="cannot be read"):
        unpack(pack(records)[:50])


def test_4_bit_vectors_take_little_room_and_stay_close() -> None:
    vectors = (
        torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.01, 100.0])[:, None, None]
    )
    kept = Vectors.keep(vectors, 4)
    assert kept.values.nbytes + kept.scale.nbytes == 2 * 5 * (32 + 4)  # half a byte an entry, 2 bytes a group of 32
    assert kept.restored().shape == vectors.shape
    steps = kept.scale.float().repeat_interleave(32, -1)
    assert bool(((kept.restored() - vectors).abs() <= steps * 0.51).all())
    assert torch.equal(Vectors.keep(torch.zeros(1, 1, 32), 4).restored(), torch.zeros(1, 1, 32))
    odd = Vectors.keep(torch.randn(1, 3, 24), 4)  # its width is no multiple of a group
    assert odd.values.dtype == torch.int8


def test_a_full_memory_is_said_once(tiny_lm: LanguageModel, caplog: pytest.LogCaptureFixture) -> None:
    index = index_of(tiny_lm, store=MemoryStore(2000, tell=True))
    with caplog.at_level("WARNING", logger="at2_prune.passage_index.stores"):
        list(index.records(PASSAGES))
        list(index.records(PASSAGES))
    assert [record.getMessage()[:39] for record in caplog.records] == ["the passage index in memory is full (0."]


def test_memory_is_bounded(tiny_lm: LanguageModel) -> None:
    store = MemoryStore(1)
    index = index_of(tiny_lm, store=store)
    assert len(list(index.records(PASSAGES))) == len(PASSAGES)
    assert (len(store), store.nbytes) == (0, 0)
    large = MemoryStore()
    list(index_of(tiny_lm, store=large).records(PASSAGES))
    assert len(large) == len(PASSAGES)
    assert large.nbytes > 0
