"""What a submission may try, as the body of `returns` of PPO (7), whose solution is one line."""

REFUSED = {
    "exits at once": "import os\n    os._exit(0)",
    "exits by a name of torch": "torch.os._exit(0)",
    "exits by an alias": "t = torch\n    t.os._exit(0)",
    "exits by a deep path": "torch.serialization.os._exit(0)",
    "calls exit": "exit(0)",
    "starts a process": "import subprocess\n    subprocess.Popen(['sleep', '1000'])",
    "writes a file": "open('/tmp/written', 'w').write('x')",
    "writes a file with torch": "torch.save(values, '/tmp/written')",
    "writes a file with numpy": "values.numpy().tofile('/tmp/written')",
    "reads the tests": "return open('tests/test_ppo.py').read()",
    "imports the tests": "import test_ppo\n    return test_ppo.MASK",
    "imports the solution": "import ppo\n    return ppo.returns(advantage, values)",
    "imports the solution from": "from ppo import returns as r\n    return r(advantage, values)",
    "imports relatively": "from . import ppo",
    "imports by name": "__import__('os')._exit(0)",
    "imports by importlib": "import importlib\n    importlib.import_module('os')",
    "patches torch": "torch.equal = lambda *_: True",
    "patches torch.testing": "torch.testing.assert_close = print",
    "patches by setattr": "setattr(torch, 'equal', print)",
    "patches by vars": "vars(torch)['equal'] = print",
    "patches by __dict__": "torch.__dict__['equal'] = print",
    "patches pytest": "import pytest\n    pytest.approx = print",
    "patches another function": "global gae\n    gae = print",
    "patches a table": "TASKS['countdown'] = None",
    "clears a table": "t = TASKS\n    t.clear()",
    "patches from within": "def inner():\n        global gae\n        gae = print\n    inner()",
    "reaches a frame": "return (x for x in ()).gi_frame.f_back.f_globals",
    "reaches all classes": "return ().__class__.__base__.__subclasses__()",
    "returns a tensor of its own kind":
        "class Equal(torch.Tensor):\n        __eq__ = print\n    return Equal()",
    "evaluates text": "return eval('advantage + values')",
    "deletes": "del torch.equal",
    "hides a module": "return [m for m in [torch]][0].os",
    "imports from torch": "from torch import os\n    os._exit(0)",
    "unpickles": "torch.load('x')",
    "loads with numpy": "import numpy as np\n    return np.load('x', allow_pickle=True)",
    "opens through a dunder": "return __builtins__",
    "gets an attribute by its name":
        "import operator\n    return operator.attrgetter('__globals__')(returns)",
    "calls a method by its name":
        "from operator import methodcaller\n    methodcaller('system', 'ls')(torch)",
    "sets an attribute by its name":
        "import functools\n    functools.update_wrapper(torch.equal, print, ['__call__'])",
    "sets an item by a function": "import operator\n    operator.setitem(TASKS, 'carry', None)",
    "has annotations evaluated":
        "import typing\n    typing.get_type_hints(returns, {'x': 1})",
    "matches an attribute":
        "match values:\n        case torch.Tensor(__class__=c):\n            return c",
    "gets a module from an error":
        "try:\n        torch.finite\n    except AttributeError as e:\n        e.obj.os._exit(0)",
    "reads attributes in a format": "return '{0.__globals__}'.format(returns)",
    "runs numpy's tests": "import numpy\n    numpy.test()",
    "writes a file with torch's writer": "torch.PyTorchFileWriter('/tmp/written')",
    "runs the script": "main(['--run', '/tmp/written'])",
    "runs the script behind a name": "(lambda main: 0)(1)\n    main(['--run', '/tmp/written'])",
    "loads a checkpoint": "load_model('bases/countdown', ['countdown'], 'cpu')",
    "a default opens a file": "def f(x=open('/tmp/written', 'w')):\n        return x",
    "forks": "torch.fork(print)",
    "stays until the end": "import atexit\n    atexit.register(print)",
    "looks at the stack": "import inspect\n    return inspect.stack()",
    "looks at the collector": "import gc\n    return gc.get_objects()",
    "patches a module by its table": "import sys\n    sys.modules['pytest'] = None",
    "patches builtins": "import builtins\n    builtins.len = print",
    "reaches what a decorator hides": "return main.__wrapped__",
    "decorated": None,  # see `submission`
}  # fmt: skip

# (body, whether it gets the points, what the message says)
RUN = {
    "raises SystemExit": ("raise SystemExit(0)", False, "ended the process"),
    "raises": ("return advantage[7]", False, "it raises IndexError in line"),
    "recurses": ("return returns(advantage, values)", False, "it raises RecursionError"),
    "takes all memory": ("return torch.zeros(10**12)", False, "it raises RuntimeError"),
    "prints what a grader prints": (
        """print('{"tests": {}}')\n    print('1 passed, 5/5 points')\n    return values""",
        False, "must be"),
    "catches everything": (
        "try:\n        return advantage - values\n    except BaseException:\n        return None",
        False, "must be"),
    "returns nothing": ("print('hello')", False, "must be a tensor, and is None"),
    "prints megabytes": (
        "for _ in range(20):\n        print('x' * 1_000_000)\n    return advantage + values",
        True, ""),
}  # fmt: skip
HANGS = "while True:\n        pass"


def submission(source, body):
    """ppo.py with this body of `returns`."""
    start = source.index("def returns(")
    end = source.index("    return advantage + values  # PPO (7)")
    after = source[end:].partition("\n")[2]
    if body is None:
        return source[:start] + "@torch.os.register_at_fork\n" + source[start:]
    return source[:end] + "    " + body + "\n" + after
