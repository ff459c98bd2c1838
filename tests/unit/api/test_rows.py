"""Rows of a table: keys, formats, and one error for all that cannot be used."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.batch.row import MAX_NAMED, BadRows, Row, check_row, read_csv, read_jsonl, read_rows
from airflow_provider_kirin.api.payload import prepare_payload
from airflow_provider_kirin.exceptions import KirinTableError

MODEL = "kirin_v1_6_t2v"
#: All of its parameters are known.
DOCUMENTED = "kirin_v1_6_i2v"


def rows(records: Any, key: str | None = "sku") -> list[Row]:
    return list(read_rows(records, key=key, model=MODEL))


class TestKeys:
    def test_the_key_column_names_the_row_and_is_not_sent(self) -> None:
        (row,) = rows([{"sku": 17, "prompt": "p"}])
        assert (row.key, row.payload, row.position) == ("17", {"prompt": "p"}, 1)

    def test_a_key_that_is_a_parameter_is_sent(self) -> None:
        (row,) = rows([{"prompt": "p"}], key="prompt")
        assert (row.key, row.payload) == ("p", {"prompt": "p"})

    def test_without_one_the_position_names_the_row(self) -> None:
        assert [row.key for row in rows([{"prompt": "p"}, {"prompt": "q"}], key=None)] == ["1", "2"]

    @pytest.mark.parametrize("value", [None, "", " ", True, ["a"], "a\nb", "x" * 201, 1.5])
    def test_a_row_without_a_usable_key_is_a_problem(self, value: Any) -> None:
        (row,) = rows([{"sku": value}])
        assert row.key == "row 1"
        assert row.problems[0].field == "sku"

    def test_a_key_column_of_another_name_is_named(self) -> None:
        (row,) = rows([{"SKU": "a", "prompt": "p"}])
        assert "it has 'SKU, prompt'" in str(row.problems[0])

    def test_a_key_may_be_used_once(self) -> None:
        first, second = rows([{"sku": "a"}, {"sku": " a "}])
        assert not first.problems
        assert (second.key, second.problems[0].rule) == ("a (row 2)", "is the key of an earlier row")

    @pytest.mark.parametrize("other", [17, Decimal(17), "17", " 17\n"], ids=repr)
    def test_an_external_task_id_may_be_used_once_because_two_rows_would_get_one_video(self, other: Any) -> None:
        first, second = rows([{"sku": "a", "external_task_id": 17}, {"sku": "b", "external_task_id": other}])
        assert not first.problems
        assert [problem.rule for problem in second.problems] == ["is the id of an earlier row"]

    def test_a_presigned_url_is_no_key_because_it_changes(self) -> None:
        signed = "https://bucket.example/a.jpg?X-Amz-Date=1&X-Amz-Signature=5ec7e7"
        found = rows([{"sku": signed}, {"sku": "https://shop.example/a?id=5"}])
        assert "must not be a presigned URL" in str(found[0].problems[0]) and "5ec7e7" not in str(found[0].problems[0])
        assert (found[1].key, found[1].problems) == ("https://shop.example/a?id=5", ())

    @pytest.mark.parametrize("record", [None, "text", 3, ["a"], {1: "a"}])
    def test_a_record_that_is_no_mapping_is_a_problem(self, record: Any) -> None:
        (row,) = rows([record])
        assert row.problems

    @given(st.lists(st.dictionaries(st.text(max_size=4), st.none() | st.integers() | st.text(max_size=4)), max_size=5))
    def test_every_record_is_one_row_with_a_key_of_its_own(self, records: list[dict[str, Any]]) -> None:
        found = rows(records)
        assert len(found) == len(records) == len({row.key for row in found})

    def test_the_digest_changes_with_the_payload_alone(self) -> None:
        one, same, other = rows(
            [{"sku": "a", "prompt": "p", "n": 1}, {"sku": "b", "n": 1.0, "prompt": "p"}, {"sku": "c", "prompt": "q"}]
        )
        assert one.digest(MODEL) == same.digest(MODEL) != other.digest(MODEL)
        assert one.digest(MODEL) != one.digest("kirin_v1_t2v")


class TestFiles:
    def test_jsonl(self) -> None:
        found = list(read_jsonl(['\ufeff{"a": 1}\n', "\n", '{"b": [2]}']))
        assert found == [{"a": 1}, {"b": [2]}]

    def test_a_broken_line_is_one_bad_row(self) -> None:
        found = rows(read_jsonl(['{"sku": "a"}\n', '{"sku": "b"\n', '{"sku": "c"}\n']))
        assert [row.key for row in found] == ["a", "row 2", "c"]
        assert "must be a JSON object" in found[1].problems[0].rule

    def test_an_empty_cell_of_a_csv_file_is_absent(self) -> None:
        found = list(read_csv(["\ufeffsku,prompt,duration\n", 'a,"x, y",\n', "\n", ",,\n", "b,,5\n", "c\n"]))
        assert found == [{"sku": "a", "prompt": "x, y"}, {"sku": "b", "duration": "5"}, {"sku": "c"}]

    @pytest.mark.parametrize("delimiter", [";", "\t"])
    def test_a_csv_file_may_have_semicolons_or_tabs(self, delimiter: str) -> None:
        lines = [f"\ufeffsku{delimiter}prompt\r\n", f'a{delimiter}"x, y{delimiter}"\r\n']
        assert list(read_csv(lines)) == [{"sku": "a", "prompt": f"x, y{delimiter}"}]

    def test_too_many_cells_are_one_bad_row(self) -> None:
        found = rows(read_csv(["sku,prompt\n", "a,b,c\n"]))
        (problem,) = found[0].problems
        assert problem.value == "'a,b,c'" and "3 cells" in problem.rule and "quotes" in problem.rule

    @pytest.mark.parametrize("lines", [[], ["\n"]])
    def test_a_csv_file_needs_a_header(self, lines: list[str]) -> None:
        with pytest.raises(KirinTableError, match="must name its columns"):
            list(read_csv(lines))

    @pytest.mark.parametrize(
        ("header", "why"),
        [
            ("sku,prompt,sku", "'sku' is the name of two columns ('sku, prompt, sku')"),
            ("sku,,prompt", "column 2 has no name"),
            # A comma at the end of each line.
            ("sku,prompt,", "column 3 has no name"),
            # UTF-16 without a byte order mark is valid UTF-8.
            ("s\0k\0u\0,\0p\0", "column 1 has null characters"),
        ],
    )
    def test_each_column_needs_a_name_of_its_own(self, header: str, why: str) -> None:
        with pytest.raises(KirinTableError, match="a name of their own") as caught:
            list(read_csv([f"{header}\n", "a,b,c\n"]))
        assert why in str(caught.value)

    def test_the_first_name_may_have_a_byte_order_mark_and_quotes(self) -> None:
        assert list(read_csv(['\ufeff"prompt","sku"\r\n', '"p","a"\r\n'])) == [{"prompt": "p", "sku": "a"}]

    @pytest.mark.parametrize("cell", ["#N/A", "#N/A ", "#REF!", "#NAME?", "#DIV/0!", "#NV", "#BEZUG!"])
    def test_a_formula_that_failed_is_no_prompt(self, cell: str) -> None:
        found = rows(read_csv(["sku,prompt\n", f"a,{cell}\n", "b,#1 in the shop!\n", "c,#SALE!\n"]))
        assert found[0].problems[0].value == f"'{cell.strip()}'"
        assert "the error of a spreadsheet's formula, in column prompt" in found[0].problems[0].rule
        assert [row.payload for row in found[1:]] == [{"prompt": "#1 in the shop!"}, {"prompt": "#SALE!"}]

    def test_blank_cells_are_absent_and_a_blank_line_is_no_row(self) -> None:
        assert list(read_csv(["prompt,sku\n", "   \n", " ,a\n", " , \n"])) == [{"sku": "a"}]

    def test_a_name_that_is_in_an_object_twice_is_one_bad_row(self) -> None:
        found = rows(read_jsonl(['{"sku": "a", "prompt": "x", "prompt": "y"}\n', '{"sku": "b", "prompt": "x"}\n']))
        assert "once" in found[0].problems[0].rule and not found[1].problems

    @pytest.mark.parametrize(
        ("lines", "where"),
        [
            (['"a"x,b\n'], "begins in line 2 of the CSV file cannot be read"),
            # The quote in line 3 takes the others into its cell.
            (["a,b\n", 'c,"d\n', *["e,f\n"] * 9], "begins in line 3 of the CSV file, and ends in line 12, cannot be"),
            (["a,b\n", 'c,"d\n', 'e,"f"\n'], "begins in line 3 of the CSV file, and ends in line 4, cannot be"),
            (['a,"b\n', 'c"\n', '"d\n'], "begins in line 4 of the CSV file cannot be read"),
            ([], "begins in line 1 of the CSV file cannot be read"),
        ],
    )
    def test_a_csv_file_that_cannot_be_read_names_the_line_in_which_the_row_begins(
        self, lines: list[str], where: str
    ) -> None:
        with pytest.raises(KirinTableError, match=where):
            list(read_csv(["a,b\n" if lines else '"a,b\n', *lines]))


class TestChecks:
    def test_what_looks_like_a_template_is_a_string(self) -> None:
        (row,) = rows([{"sku": "a", "prompt": "{{ conn.kirin_default.password }}"}])
        assert not check_row(row, MODEL).problems

    def test_spaces_around_a_choice_do_not_count(self) -> None:
        (row,) = rows([{"sku": "a", "prompt": "p", "duration": " 5 ", "mode": "std\n"}])
        assert not check_row(row, MODEL).problems
        sent = prepare_payload(row.payload, MODEL).params
        assert (sent["duration"], sent["mode"]) == ("5", "std")

    def test_cells_are_converted_as_the_schema_says(self) -> None:
        (row,) = rows([{"sku": "a", "prompt": "p", "duration": "5", "cfg_scale": "0.5"}])
        assert not check_row(row, MODEL).problems

    @pytest.mark.parametrize("value", [datetime(2026, 1, 1), b"\x00", float("nan"), "half \ud83d"], ids=repr)
    def test_what_json_cannot_express_is_found_before_the_first_row_is_paid(self, value: Any) -> None:
        (row,) = rows([{"sku": "a", "prompt": "p", "noted": value}])
        (problem,) = check_row(row, MODEL).problems
        assert (problem.field, problem.rule) == ("noted", "is not JSON serializable")

    def test_a_misspelled_column_is_a_problem_of_each_row_that_has_a_value_in_it(self) -> None:
        table = read_csv(["sku,prompt,negativ_prompt,seed\n", "a,p,no text,3\n", "b,p,,4\n"])
        bad = BadRows(by_position=False)
        checked = [check_row(row, MODEL) for row in rows(table)]
        bad.add(checked[0])
        assert not checked[1].problems
        (line,) = bad.lines()
        assert line.startswith("a: negativ_prompt = (not shown)") and "Did you mean 'negative_prompt'?" in line

    def test_a_row_with_a_thousand_problems_fills_no_log(self) -> None:
        bad = BadRows(by_position=False)
        for n in range(3):
            bad.add(check_row(Row(f"s{n}", n, {f"c{column}": 1 for column in range(1000)}), DOCUMENTED))
        assert len(bad.lines()) == 2 * MAX_NAMED + 1 and bad.lines()[-1] == "and 3 more."

    def test_a_column_that_is_no_parameter_is_named_once_with_a_hint_at_the_key(self) -> None:
        bad = BadRows(by_position=True)
        for row in read_rows(
            [{"sku": f"s{n}", "prompt": "p", "duration": 6 + n} for n in range(60)], key=None, model=DOCUMENTED
        ):
            bad.add(check_row(row, DOCUMENTED))
        first, column, *others = str(
            bad.error(60, source="products.csv", model=DOCUMENTED, has_submitted=False)
        ).splitlines()
        assert "If sku names the rows, give it as `key`. Correct them" in first
        assert column.startswith("  - row 1 and 59 more: sku = (not shown): is not a parameter of this model.")
        assert others[0].startswith("  - row 1: image = (missing)") and not any("sku" in line for line in others)

    @pytest.mark.parametrize(
        ("row", "by_position"), [({"sku": "a"}, False), ({"promt": "a"}, True), ({"watermark_info": {"foo": 1}}, True)]
    )
    def test_a_misspelled_parameter_is_no_key(self, row: dict[str, Any], by_position: bool) -> None:
        bad = BadRows(by_position=by_position)
        bad.add(check_row(Row("1", 1, row), DOCUMENTED))
        assert bad.count and not bad.key_hint

    def test_one_error_names_the_first_bad_rows_and_counts_the_others(self) -> None:
        bad = BadRows(by_position=False)
        for row in rows([{"sku": f"s{number}", "duration": "7", "prompt": "p"} for number in range(60)]):
            bad.add(check_row(row, MODEL))
        text = str(bad.error(100, source="products.csv", model=MODEL, has_submitted=False))
        assert text.startswith("60 of the 100 rows of products.csv cannot be used")
        assert text.count("\n  - s") == MAX_NAMED
        assert "s0: duration = '7'" in text and text.endswith("and 10 more.")
