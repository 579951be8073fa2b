from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trialogue_adapters.rag.index import Index

from .conftest import write

Open = Callable[..., Index]


@pytest.fixture
def index(docs: Path, tmp_path: Path) -> Iterator[Open]:
    made: list[Index] = []

    def open_index(path: Path | None = tmp_path / "i.sqlite", folder: Path | None = docs) -> Index:
        made.append(Index(folder, path))
        return made[-1]

    yield open_index
    for one in made:
        one.close()


def found(index: Index, question: str) -> list[str]:
    return [hit.document for hit in index.search(question, 5).hits]


def test_only_what_changed_is_cut_anew(index: Open, docs: Path) -> None:
    one = index()
    assert one.sync() == 3
    assert one.sync() == 0
    write(docs / "refunds.md", "# Refunds\n\nRefunds are paid in elephants.\n")
    assert one.sync() == 1
    assert found(one, "elephants") == ["refunds.md"]
    assert found(one, "fourteen") == []
    assert index().sync() == 0
    assert repr(one) == "<Index on disk, 3 documents, 3 passages>"


def test_a_touched_file_is_read_but_not_cut(index: Open, docs: Path) -> None:
    one = index()
    one.sync()
    os.utime(docs / "ko.md", (1, 1))
    seen: list[tuple[int, int]] = []
    assert one.sync(lambda done, total: seen.append((done, total))) == 0
    assert seen == [(1, 1)]
    assert one.sync(lambda *_: pytest.fail("nothing is left to read")) == 0


def test_an_edit_that_keeps_size_and_time_is_noticed_while_the_file_is_fresh(index: Open, docs: Path) -> None:
    path = write(docs / "new.txt", "lions live here", age=0)
    stat = path.stat()
    one = index()
    one.sync()
    path.write_text("tiger live here")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert one.sync() == 1
    assert found(one, "tiger") == ["new.txt"]


def test_what_vanished_is_dropped(index: Open, docs: Path) -> None:
    one = index()
    one.sync()
    (docs / "refunds.md").unlink()
    assert one.sync() == 0
    assert found(one, "refund deadline") == []
    assert one.size.documents == 2


def test_progress_counts_what_is_read(index: Open) -> None:
    seen: list[tuple[int, int]] = []
    index().sync(lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_stopping_half_way_keeps_a_usable_index(index: Open, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trialogue_adapters.rag.index.BATCH", 1)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    one = index()
    with pytest.raises(KeyboardInterrupt):
        one.sync(stop)
    assert one.sync() == 2


def test_korean_words_of_two_syllables_are_found_with_any_particle(index: Open, docs: Path) -> None:
    write(docs / "trains.md", "# 기차\n\n기차는 정오에 출발합니다.\n")
    one = index()
    one.sync()
    for question in ("환불", "환불이 되나요?", "환불을 받으려면 어떻게 해?"):
        assert found(one, question)[0] == "ko.md"
    assert found(one, "기차가 언제 출발해?")[0] == "trains.md"
    assert found(one, "날씨") == []


@pytest.mark.parametrize(
    "question",
    [
        '"',
        '""refund""',
        "refund NEAR(x, 2)",
        "refund*",
        "-refund",
        "^refund",
        "title:refund",
        "{a b}: c",
        "((((",
        "🙂🙂",
        "\x00",
        "' OR 1=1; DROP TABLE passages; --",
        "refund AND",
        "NOT",
        "환불*)",
        "%_",
        "x" * 10_000,
        "refund " * 1_500,
        "가" * 10_000,
        " ".join(f"word{n}" for n in range(1_400)),
    ],
)
def test_no_question_is_query_syntax(index: Open, question: str) -> None:
    one = index()
    one.sync()
    result = one.search(question, 3)
    assert all(0 <= hit.score < 1 for hit in result.hits)
    assert found(one, "refund deadline")[0] == "refunds.md"


def test_the_score_means_how_much_of_the_question_is_there(index: Open) -> None:
    one = index(folder=None)
    one.sync()
    best = {
        question: one.search(question, 1).hits[0].score
        for question in ("try finally clause", "try finally zebra", "try zebra yak", "zebra yak try quokka")
    }
    assert list(best.values()) == sorted(best.values(), reverse=True)
    assert best["try finally clause"] > 0.7 > 0.5 > best["zebra yak try quokka"] > 0


def test_a_folder_of_one_file_still_gives_scores(index: Open, tmp_path: Path) -> None:
    write(tmp_path / "one" / "a.txt", "The refund policy is generous.")
    one = index(tmp_path / "one.sqlite", tmp_path / "one")
    one.sync()
    assert one.search("refund policy", 1).hits[0].score > 0.45


def test_the_same_text_in_two_documents_is_one_hit(index: Open, docs: Path) -> None:
    write(docs / "copy.md", (docs / "refunds.md").read_text())
    one = index()
    one.sync()
    assert len(found(one, "refund deadline")) == 2  # two passages, not four


def test_real_questions_find_the_right_topic(index: Open) -> None:
    one = index(folder=None)
    one.sync()
    expected = {
        "what does the with statement do": "with",
        "how do I use try finally": "try",
        "What is a context manager?": "context-managers",
        "how does a for loop work": "for",
        "what does yield do": "yield",
        "with 문은 무엇을 하나요?": "with",
    }
    assert {question: found(one, question)[0] for question in expected} == {
        question: f"pydoc_data/topics/{topic}" for question, topic in expected.items()
    }


def test_a_file_that_is_damaged_later_is_rebuilt(index: Open, docs: Path, tmp_path: Path) -> None:
    path = tmp_path / "i.sqlite"
    one = index()
    one.sync()
    one.close()
    for name in ("i.sqlite-wal", "i.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xa5" * (len(raw) - 4096)
    path.write_bytes(raw)
    two = index()
    assert two.sync() == 3
    assert found(two, "refund deadline")[0] == "refunds.md"


def test_without_a_place_to_write_it_lives_in_memory(index: Open, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one = index(tmp_path / "file" / "i.sqlite")
    assert one.sync() == 3
    assert repr(one) == "<Index in memory, 3 documents, 4 passages>"


def test_processes_that_start_together_share_a_file(docs: Path, tmp_path: Path) -> None:
    for n in range(150):
        write(docs / f"n{n}.md", f"# Note {n}\n\n" + f"Number{n} is here. " * 40)
    program = (
        "import sys; from pathlib import Path; from trialogue_adapters.rag.index import Index\n"
        "i = Index(Path(sys.argv[1]), Path(sys.argv[2])); i.sync()\n"
        "assert i.persistent\n"
        "print(i.size.documents, i.size.passages, i.search('number77', 1).hits[0].document)"
    )
    command = [sys.executable, "-c", program, str(docs), str(tmp_path / "shared.sqlite")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    said = [process.communicate(timeout=50)[0].strip() for process in running]
    assert said == ["153 154 n77.md"] * 3
