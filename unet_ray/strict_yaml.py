"""YAML of a configuration: one small plain document, or a fault in one line that quotes none of its values."""

from typing import Any

import yaml
from yaml.error import Mark
from yaml.nodes import MappingNode, Node, ScalarNode
from yaml.reader import ReaderError

MOST_BYTES = 2**17
_DEEPEST = 8  # levels; an option needs four


def parse_yaml(text: str) -> Any:
    """Return the document in ``text``; None where there is none.

    Raises:
        ValueError: It is not YAML, or more than a configuration needs: tags, anchors, a repeated key, deep nesting.
    """
    try:
        return _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem or error.context}") from None
    except ReaderError as error:
        raise ValueError(f"character {error.position + 1}: {error.reason}") from None


class _Loader(yaml.SafeLoader):
    _depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if event.anchor is not None:  # of an alias, too
            raise _fault("anchors and aliases (&, *) are not read; write the value out", event.start_mark)
        if event.tag is not None:
            raise _fault("tags (!) are not read", event.start_mark)
        if self._depth == _DEEPEST:
            raise _fault(f"nested more than {_DEEPEST} levels deep", event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError:
            raise _fault(
                "not a number or date that can be read; quote it where text is meant", node.start_mark
            ) from None

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode):  # a key of any other kind is refused below
                if key.value in seen:
                    raise _fault(f"{key.value} is given twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _fault(problem: str, mark: Mark | None) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
