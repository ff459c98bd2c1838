"""What the vendors' clients send and read, written by hand from the facts about them (protocol notes, section 17).

vtrix-cli and seacloud-cli read what the gateway says about its models, without a key, before they submit. The
JavaScript SDK, like the newest ones for Go and Python, sends the model as a header and searches for models.
test_official_client.py has the Python SDK itself.
"""

from __future__ import annotations

import json

import pytest
import requests

from tests.support.waiting import HANG


@pytest.fixture
def cli(emulator):
    """What the CLIs read: no key, and the ``data`` of an envelope whose status is 200."""

    def get(path, **query):
        headers = {"User-Agent": "vtrix-cli/1.0.1", "X-Source": "cli"}
        response = requests.get(f"{emulator.url}/api/v1/skill{path}", params=query, headers=headers, timeout=HANG)
        body = response.json()
        assert (response.status_code, body["status"]) == (200, {"code": 200, "message": "success"})
        return body["data"]

    return get


class TestTheCommandLines:
    def test_list_models_page_by_page(self, cli):
        first = cli("/models")
        assert (first["page"], first["page_size"], len(first["models"])) == (1, 20, 20)
        assert first["total"] > 20
        assert first["total_pages"] == 2
        entry = first["models"][0]
        assert entry["id"] == entry["name"] == "kirin_v1_6_i2v"
        assert entry["type"] == "i2v"
        assert (entry["input_modalities"], entry["output_modalities"]) == (["image", "text"], ["video"])
        pages = [cli("/models", page=page, page_size=9)["models"] for page in (1, 2, 3, 4)]
        seen = [model["id"] for page in pages for model in page]
        assert (len(seen), len(set(seen)), pages[3]) == (first["total"], first["total"], [])

    def test_list_models_of_a_type_and_with_keywords(self, cli):
        found = cli("/models", type="t2v", keywords="V2 master")
        assert [model["id"] for model in found["models"]] == ["kirin_v2_master_t2v", "kirin_v2_1_master_t2v"]
        assert cli("/models", keywords="sora")["models"] == []

    @pytest.mark.parametrize("page", ["0", "-1", "one", "²", "9" * 5000])
    def test_a_page_that_is_no_number_is_refused(self, emulator, page):
        response = requests.get(f"{emulator.url}/api/v1/skill/models?page={page}", timeout=HANG)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "INVALID_PARAMETER")

    def test_a_contract_says_how_to_submit(self, cli):
        contract = cli("/model-contracts/kirin_v1_6_i2v")
        assert (contract["schema_version"], contract["model_id"]) == ("model-contract.v1", "kirin_v1_6_i2v")
        assert isinstance(contract["revision"], str)
        assert (contract["protocol"], contract["body_mode"]) == ("generation", "generation_wrapper")
        assert contract["endpoints"]["submit"] == {"method": "POST", "path": "/model/v1/generation"}
        schema = contract["input_schema"]
        assert schema["additionalProperties"] is False
        assert schema["properties"]["duration"] == {"type": "string", "default": "5", "enum": ["5", "10"]}

    def test_a_spec_says_how_to_submit_too(self, cli, emulator, image):
        spec = cli("/models/kirin_v1_t2v/spec")
        assert spec["model_id"] == "kirin_v1_t2v"
        assert spec["api"] == {"endpoint": f"{emulator.url}/model/v1/generation", "method": "POST", "headers": {}}
        parameters = {each["name"]: each for each in spec["parameters"]}
        assert parameters["prompt"]["required"] is True
        assert parameters["prompt"]["constraints"] == {"min_length": 1, "max_length": 2500}
        camera = {each["name"]: each for each in parameters["camera_control"]["children"]}
        assert camera["config"]["path"] == "camera_control.config"
        body = {"model": spec["model_id"], "input": [{"params": {"prompt": "a cup"}}]}
        headers = {"Authorization": f"Bearer {emulator.api_key}", "X-Source": "cli"}
        submitted = requests.post(spec["api"]["endpoint"], json=body, headers=headers, timeout=HANG)
        assert submitted.status_code == 200

    @pytest.mark.parametrize("path", ["/models/sora/spec", "/model-contracts/sora"])
    def test_a_model_that_there_is_not(self, emulator, path):
        response = requests.get(f"{emulator.url}/api/v1/skill{path}", timeout=HANG)
        assert (response.status_code, response.json()["data"]) == (200, None)
        assert response.json()["status"] == {"code": 404, "message": "model not found: sora"}

    def test_a_duration_as_they_declare_it(self, emulator, image):
        task = emulator.ended(emulator.submitted_id(image=image, prompt="[[duration:string]]"))
        assert isinstance(task["output"][0]["content"][0]["duration"], str)
        assert isinstance(task["usage"]["cost"], str)


class TestTheJavaScriptSdk:
    """Its base URL is the root; it appends /model, and moves the model from the body to ``X-Model``."""

    @pytest.fixture
    def send(self, emulator):
        def request(method, path, body=None, **headers):
            headers = {
                "Authorization": f"Bearer {emulator.api_key}",
                # With every request, also one without a body.
                "Content-Type": "application/json",
                "User-Agent": "seaart-sdk-js/0.1.0",
                **headers,
            }
            data = None if body is None else json.dumps(body)
            return requests.request(method, emulator.url + "/model" + path, data=data, headers=headers, timeout=HANG)

        return request

    @pytest.fixture
    def body(self, image):
        return {"moderation": False, "metadata": {"trace_id": "t"}, "input": [{"params": {"image": image}}]}

    def test_create_and_wait(self, send, body, emulator):
        created = send("POST", "/v1/generation", body, **{"X-Model": "kirin_v1_6_i2v"}).json()
        assert (created["status"], created["model"]) == ("in_progress", "kirin_v1_6_i2v")
        emulator.ended(created["id"])
        task = send("GET", f"/v1/generation/task/{created['id']}").json()
        assert task["status"] == "completed"
        assert task["output"][0]["content"][0]["url"].startswith(emulator.url)

    def test_a_failure_has_one_of_the_two_keys_that_it_reads(self, send, body, emulator):
        for shape, key in (("", "error_message"), (":message", "message")):
            body["input"][0]["params"]["prompt"] = f"[[fail:8002005098{shape}]]"
            id_ = send("POST", "/v1/generation", body, **{"X-Model": "kirin_v1_6_i2v"}).json()["id"]
            emulator.ended(id_)
            error = send("GET", f"/v1/generation/task/{id_}").json()["error"]
            assert (error["code"], error[key]) == ("8002005098", "generation process failed")

    def test_an_error_has_a_message_where_it_looks(self, send, body):
        for headers in ({"X-Model": "kirin_v1_6_i2v", "Authorization": "Bearer other"}, {}):
            response = send("POST", "/v1/generation", body, **headers)
            assert response.status_code == (401 if headers else 400)
            assert response.json()["error"]["message"]

    def test_precharge(self, send, body):
        price = send("POST", "/v1/generation/precharge", body, **{"X-Model": "kirin_v1_6_i2v"}).json()
        assert (price["status"], price["data"]["cost"]) == ("success", "0.28")

    def test_search_models(self, send):
        query = "?q=v2&input=image&output=video&type=i2v&provider=kirin&limit=2"
        found = send("GET", f"/v1/models/skill/search{query}", Accept="application/json").json()
        assert [hit["name"] for hit in found["hits"]] == ["kirin_v2_master_i2v", "kirin_v2_1_i2v"]
        assert (found["query"], found["limit"]) == ("v2", 2)
        assert found["estimatedTotalHits"] > 2
        assert send("GET", "/v1/models/skill/search?q=").json()["estimatedTotalHits"] > 20

    def test_the_skill_of_a_model_is_markdown(self, send):
        response = send("GET", "/v1/models/skill/kirin_v1_6_i2v", Accept="application/json")
        assert response.headers["Content-Type"].startswith("text/markdown")
        assert response.text.startswith("# kirin_v1_6_i2v\n")
        assert '- `duration`: type "string", required false, enum ["5", "10"], default "5"' in response.text
        assert send("GET", "/v1/models/skill/sora").status_code == 404

    def test_these_need_a_key(self, emulator):
        for path in ("search?q=", "kirin_v1_6_i2v"):
            assert requests.get(f"{emulator.url}/model/v1/models/skill/{path}", timeout=HANG).status_code == 401
