"""In front of a model behind an OpenAI-compatible API (llama.cpp, Ollama, vLLM, …), with a prompt of your own.

    $ trialogue serve --service openai_upstream:service --service-runtime trio

Without a prompt of your own no file is needed: `trialogue serve --answer openai --llm-url … --model …`.
"""

import os

from trialogue_adapters.bridges.openai import OpenAIService, Prompt, dialogue

URL = os.environ.get("LLM_URL", "http://127.0.0.1:8080/v1")
HANDBOOK = {"title": "handbook.md", "score": 0.9, "content_preview": "Refunds take fourteen days."}


async def prepare(question):
    found = [HANDBOOK]  # your search
    system = {"role": "system", "content": f"Answer from this: {found[0]['content_preview']}"}
    return Prompt([system, *dialogue(question.turns), {"role": "user", "content": question.text}], sources=found)


def service():
    key = os.environ.get("OPENAI_API_KEY")
    parameters = {"max_tokens": 100, "temperature": 0.2}
    return OpenAIService(URL, "smol", key=key, prepare=prepare, parameters=parameters)
