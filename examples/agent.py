"""Let a model call a function. The model is scripted, so the program shows the loop alone."""

import asyncio

import registry
from adapter_api import Message, TaskRequest, Tool

CALL = {"name": "add", "arguments": {"a": 2, "b": 3}}
ADD = Tool(
    "add",
    "Add two numbers.",
    {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
)


def add(a: float, b: float) -> float:
    return a + b


async def main() -> None:
    model = registry.get("mock", {"tool_calls": [CALL], "tokens": ["Let me add them."]})
    messages = [Message("user", "What is 2 + 3?")]
    async with model as adapter:
        answer = await adapter.submit(TaskRequest(messages=messages, tools=[ADD])).answer()
    messages.append(answer.message())
    for call in answer.tool_calls:  # whole calls only: cut ones are in invalid_tool_calls
        result = add(**call.json())
        print(f"{call.name}({call.arguments}) = {result}")
        messages.append(call.result(str(result)))
    async with registry.get("mock", {"tokens": ["It is 5."]}) as adapter:
        print(await adapter.submit(TaskRequest(messages=messages, tools=[ADD])).text())


asyncio.run(main())
