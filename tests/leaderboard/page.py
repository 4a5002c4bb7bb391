"""Records for the page's tests, and what they read off it."""

from tests.leaderboard.test_ranking import GOOD, POOR, TEACHER, WORSE, squad

PATIENCE = 120_000  # milliseconds; the machine may be busy
HOSTILE = (
    "<img src=x onerror=window.hacked=1>",
    "</script><script>window.hacked=1</script>",
    "javascript:window.hacked=1",
    '"><svg onload=window.hacked=1>',
    "'+window.hacked+'",
    "<b>bold<br>&lt;a href='javascript:alert(1)'>",
)


def measured():
    made = []
    for task, shots in (("toy_oneshot", 1), ("toy_zeroshot", 0)):
        at = {"task__name": task, "task__num_fewshot": shots}
        made += [
            squad(TEACHER, "teacher", "teacher", model__parameters=10**9, **at),
            squad(GOOD, "good", model__parameters=8 * 10**8, method={"name": "forward_kl", "temperature": 2.0}, **at),
            squad(POOR, "poor", "sft", model__parameters=5 * 10**8, model__family="qwen", **at),
            squad(WORSE, "raw", "undistilled", model__parameters=5 * 10**8, **at),
        ]
    return made


def names(page):
    """The models in the table's rows, top to bottom."""
    cells = page.locator("#table .tabulator-row .tabulator-cell[tabulator-field=name]")
    return cells.all_inner_texts()


def plotted(page, plot="size-plot"):
    page.locator(f"#{plot} .scatterlayer .point").first.wait_for(state="attached")


def until(page, expression):
    """Playwright's own waiting evaluates text within the page, which the page's policy forbids."""
    while not page.evaluate(expression):
        page.wait_for_timeout(50)
