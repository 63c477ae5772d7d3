"""Pages as their makers write them: forms around everything, several main elements, hidden text in odd places."""

from __future__ import annotations

from bessemer.corpus.content import Content
from bessemer.corpus.html import read_html
from bessemer.corpus.markdown import find_sections


def read_body(html: str) -> Content:
    return read_html(f"<html><body>{html}</body></html>".encode())


def test_a_page_within_one_form_is_read_without_its_controls() -> None:
    controls = '<input value="x"><button>Search</button>'
    content = read_body(f'<form action="x"><p>Opening hours</p>{controls}Nine to five</form>')
    assert content.text == "Opening hours\n\nNine to five"


def test_all_main_elements_are_read_and_the_rest_is_counted() -> None:
    main = "<main><h1>Pumps</h1><p>One.</p></main><div><main>Two.</main></div>"
    header, footer = "<header><h1>ACME</h1><nav>menu</nav></header>", "<footer>All  rights <b>reserved</b></footer>"
    content = read_body(header + main + footer)
    assert content.text == "# Pumps\n\nOne.\n\nTwo."
    assert content.removed == {"outside of the main element": ("ACME All rights reserved",)}


def test_a_title_outside_of_main_is_kept_where_main_has_none() -> None:
    content = read_body("<header><h1>Pumps</h1>Contact</header><main><h2>Oil</h2>Once a year.</main>")
    assert content.text == "# Pumps\n\n## Oil\n\nOnce a year."
    assert content.removed == {"outside of the main element": ("Contact",)}


def test_a_main_element_without_text_is_no_main_element() -> None:
    assert read_body("<main><script>draw()</script></main><main hidden>old</main><p>The page.</p>").text == "The page."


def test_hidden_text_is_left_out_everywhere() -> None:
    hidden = '<b hidden>x</b><i style="color: red; DISPLAY :\tnone">x</i><script>x</script><!-- x -->'
    rows = f"<table><tr><td>tea{hidden}</td><td hidden>x</td><td>2</td></tr></table>"
    content = read_body(f"<h2>Prices{hidden}</h2>{rows}<pre>a = 1{hidden}</pre>")
    assert content.text == "## Prices\n\ntea | 2\n\n```\na = 1\n```"


def test_headings_keep_their_identifiers() -> None:
    link = '<a href="#x">#</a>'
    headings = [
        "Introduction to C#",
        f"Intro{link}",
        "Intro¶",
        "The &lt;table&gt; element",
        "Call <code>__init__</code>",
    ]
    content = read_body("".join(f"<h2>{heading}</h2>" for heading in headings) + f"<h2><code></code>{link}</h2>")
    assert [section.headings[0] for section in find_sections(content.text)] == [
        "Introduction to C#", "Intro", "Intro", "The <table> element", "Call __init__",
    ]  # fmt: skip


def test_blank_lines_become_one_and_code_keeps_its_indentation() -> None:
    content = read_body("<p>a</p> <br> <br> <p>b</p><pre>if x:\n\n\n    y = 1  \n</pre>")
    assert content.text == "a\n\nb\n\n```\nif x:\n\n    y = 1  \n```"


def test_a_run_of_spaces_is_read_in_one_pass() -> None:
    code = "a" + " " * 200_000 + "b"
    assert read_body(f"<pre>{code}</pre>").text == f"```\n{code}\n```"
