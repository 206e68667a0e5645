"""What a submission may not do is refused before it runs, and the reference is not refused."""

import ast
import importlib

import pytest
from course_hostile import REFUSED, RUN, submission

from course.grade import grafted
from course.items import ROOT, all_rows, item_of
from course.screen import screen
from course.stubs import Refused, graft

PPO = (ROOT / "ppo.py").read_text()


def screened(body):
    one = graft(PPO, submission(PPO, body), "ppo.py", "returns")
    screen(one, "returns", importlib.import_module("ppo"), PPO)


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_does_more_than_compute_is_refused(body):
    with pytest.raises(Refused, match="which a solution does not need"):
        screened(body)


@pytest.mark.parametrize("body", [body for body, *_ in RUN.values()], ids=RUN)
def test_what_only_a_process_can_stop_is_not_refused(body):
    screened(body)


def test_the_reference_is_not_refused():
    for tag in all_rows():
        assert grafted(item_of(tag), ROOT).source


@pytest.mark.parametrize(
    "body",
    [
        "import math\n    return advantage + values * math.exp(0)",
        "import torch.nn.functional as F\n    return advantage + F.relu(values) - F.relu(-values)",
        "from torch.nn import functional\n    return advantage + values",
        "from itertools import accumulate\n    return advantage + values",
        "out = advantage.clone()\n    out[..., 0] += 1\n    return out.add_(values)",
        "sums = {}\n    sums['x'] = advantage + values\n    return sums['x']",
        "import numpy as np\n    return torch.as_tensor(np.asarray(advantage + values))",
        "input = [advantage, values]\n    return torch.stack(input).sum(dim=0)",
        "main = torch.nn.functional.pad(values, (0, 0))\n    return main + advantage",
        "try:\n        return advantage + values\n    except ValueError as e:\n        raise e",
        "with torch.no_grad():\n        return advantage.double().to(torch.float64) + values",
        "return torch.einsum('bgt->bgt', advantage) + td_error(values, values, 1)",
        "n = 0\n    def more():\n        nonlocal n\n        n += 1\n    return advantage + values",
        "for p in values.parameters():\n        p.data.copy_(p)\n    return values",
        "return advantage + values + torch.finfo(values.dtype).eps * torch.nn.LogSigmoid()(values)",
        "import re\n    return advantage + values * len(re.findall(r'\\d', '7').pop())",
        "match values.dim():\n        case 3:\n            return advantage + values",
    ],
)
def test_an_honest_solution_is_not_refused(body):
    screened(body)


def test_a_table_that_holds_the_solution_is_refused(tmp_path):
    source = (ROOT / "prorl.py").read_text()
    start = source.index("    rho = ratio(logp, logp_old, weights > 0)")
    end = source.index("return weighted_sum(surrogate - kl_term, weights)  # ProRL L")
    for place in ("ALGORITHMS['grpo'][-1]", "PRORL[-1]"):
        call = f"    return {place}(logp, logp_old)  #"
        (tmp_path / "prorl.py").write_text(source[:start] + call + source[end:])
        with pytest.raises(Refused, match=f"uses {place.split('[')[0]}, which"):
            grafted(item_of("ProRL L"), tmp_path)


def test_what_is_no_python_in_a_function_is_refused():
    with pytest.raises(Refused, match=r"is not Python: import \*"):
        screened("from torch import *")


def test_a_helper_is_screened_too():
    text = submission(PPO, "return helper(advantage) + values")
    text += "\n\ndef helper(x):\n    open('/tmp/x', 'w')\n    return x\n"
    one = graft(PPO, text, "ppo.py", "returns")
    assert len(one.parts) == 2 and isinstance(one.parts[1], ast.FunctionDef)
    with pytest.raises(Refused, match="uses open"):
        screen(one, "returns", importlib.import_module("ppo"), PPO)
