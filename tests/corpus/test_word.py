"""Word's markup around the text: tracked changes, content controls, fields, text boxes, tables in tables."""

from __future__ import annotations

import io

import docx
import pytest
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import parse_xml

from bessemer.corpus import word
from bessemer.corpus.content import Content, UnreadableError
from bessemer.corpus.word import read_docx

_NAMESPACES = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
)


def read_body(xml: str, **notes: str) -> Content:
    """Read a document whose body is this, with the parts ``footnotes`` and ``endnotes``."""
    file = docx.Document()
    for name, content in notes.items():
        of_kind = f"application/vnd.openxmlformats-officedocument.wordprocessingml.{name}+xml"
        blob = f"<w:{name} {_NAMESPACES}>{content}</w:{name}>".encode()
        part = Part(PackURI(f"/word/{name}.xml"), of_kind, blob, file.part.package)
        file.part.relate_to(part, f"http://schemas.openxmlformats.org/officeDocument/2006/relationships/{name}")
    body = file.element.body
    for position, element in enumerate(list(parse_xml(f"<w:body {_NAMESPACES}>{xml}</w:body>"))):
        body.insert(position, element)
    data = io.BytesIO()
    file.save(data)
    return read_docx(data.getvalue())


def run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(text: str) -> str:
    return f"<w:p>{run(text)}</w:p>"


def control(content: str, properties: str = "") -> str:
    return f"<w:sdt><w:sdtPr>{properties}</w:sdtPr><w:sdtContent>{content}</w:sdtContent></w:sdt>"


def row(*cells: str) -> str:
    return f"<w:tr>{''.join(f'<w:tc>{cell}</w:tc>' for cell in cells)}</w:tr>"


def test_insertions_count_and_deletions_do_not() -> None:
    xml = f"""<w:p>{run("Notice is ")}<w:del><w:r><w:delText>four</w:delText></w:r></w:del>
<w:ins>{run("six")}</w:ins>{run(" weeks")}<w:moveFrom>{run(", paid")}</w:moveFrom>.</w:p>"""
    assert read_body(xml).text == "Notice is six weeks"


def test_controls_tags_and_fields_within_a_paragraph() -> None:
    tab_stop = '<w:pPr><w:tabs><w:tab w:pos="9"/></w:tabs></w:pPr>'
    pieces = [
        control(run("Pump ")),
        f"<w:smartTag>{run('in Kiel ')}</w:smartTag>",
        f'<w:fldSimple w:instr="REF x">{run("see table 4")}</w:fldSimple>',
    ]
    assert read_body(f"<w:p>{tab_stop}{''.join(pieces)}</w:p>").text == "Pump in Kiel see table 4"


def test_controls_around_paragraphs_rows_and_cells() -> None:
    cells = f"<w:tc>{paragraph('grade')}</w:tc>" + control(f"<w:tc>{paragraph('days')}</w:tc>")
    rows = f"<w:tr>{cells}</w:tr>" + control(row(paragraph("A")))
    xml = control(paragraph("Twenty days a year.")) + f"<w:tbl>{rows}</w:tbl>"
    assert read_body(xml).text == "Twenty days a year.\n\ngrade | days\nA"


def test_contents_and_placeholders_are_taken_out_and_counted() -> None:
    gallery = '<w:docPartObj><w:docPartGallery w:val="Table of Contents"/></w:docPartObj>'
    entries = paragraph("Contents") + f"<w:p>{run('Leave')}<w:r><w:tab/></w:r>{run('3')}</w:p>"
    name = f"<w:p>{run('Name: ')}{control(run('Click here.'), '<w:showingPlcHdr/>')}</w:p>"
    content = read_body(control(entries, gallery) + name)
    assert content.text == "Name:"
    assert content.removed == {
        "table of contents": ("Contents Leave 3",),
        "placeholder of an empty content control": ("Click here.",),
    }


def test_a_text_box_is_read_once_behind_its_paragraph() -> None:
    box = f"<w:txbxContent>{paragraph('Keep it upright.')}</w:txbxContent>"
    both = f"<mc:AlternateContent><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent>"
    assert read_body(f"<w:p>{run('The pump')}<w:r>{both}</w:r>{run(' is heavy.')}</w:p>").text == (
        "The pump is heavy.\n\nKeep it upright."
    )


def referring(text: str, kind: str, number: int) -> str:
    return f'<w:p>{run(text)}<w:r><w:{kind}Reference w:id="{number}"/></w:r>{run(".")}</w:p>'


def note(kind: str, number: int, *texts: str) -> str:
    mark = f"<w:r><w:{kind}Ref/></w:r>"
    return f'<w:{kind} w:id="{number}"><w:p>{mark}</w:p>{"".join(map(paragraph, texts))}</w:{kind}>'


def test_notes_follow_what_refers_to_them() -> None:
    separator = '<w:footnote w:type="separator" w:id="-1"><w:p><w:r><w:separator/></w:r></w:p></w:footnote>'
    cell = row(referring("grade A", "footnote", 3), paragraph("20"))
    content = read_body(
        f"{referring('Leave is paid', 'footnote', 2)}{referring('So is sickness', 'endnote', 2)}<w:tbl>{cell}</w:tbl>"
        + referring("Gone", "footnote", 9),
        footnotes=separator + note("footnote", 2, "# Not in", "the first year.") + note("footnote", 3, "From 2024 on."),
        endnotes=note("endnote", 2, "Six weeks."),
    )
    assert content.text.split("\n\n") == [
        "Leave is paid.",
        "\\# Not in the first year.",
        "So is sickness.",
        "Six weeks.",
        "grade A. | 20",
        "From 2024 on.",
        "Gone.",
    ]


def test_a_table_in_a_cell_follows_the_row() -> None:
    inner = f"<w:tbl>{row(paragraph('zone'), paragraph('days'))}{row(paragraph('north'), paragraph('2'))}</w:tbl>"
    xml = f"<w:tbl>{row(paragraph('Delivery'), paragraph('by zone') + inner)}{row(paragraph('Returns'))}</w:tbl>"
    assert read_body(xml).text == "Delivery | by zone\nzone | days\nnorth | 2\nReturns"


def merged(text: str) -> str:
    start = ' w:val="restart"' if text else ""
    return f"<w:tcPr><w:vMerge{start}/></w:tcPr>{paragraph(text)}"


def test_merged_cells() -> None:
    wide = f'<w:tcPr><w:gridSpan w:val="2000000000"/></w:tcPr>{paragraph("all year")}'
    xml = f"<w:tbl>{row(merged('grade A'), paragraph('20'))}{row(merged(''), paragraph('25'))}{row(wide)}</w:tbl>"
    assert read_body(xml).text == "grade A | 20\ngrade A | 25\nall year"


def test_merged_cells_cannot_blow_up_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word, "MAX_CHARACTERS", 1000)
    xml = f"<w:tbl>{row(merged('x' * 100))}{row(merged('')) * 10}</w:tbl>"
    with pytest.raises(UnreadableError, match="more than 1000 characters"):
        read_body(xml)
