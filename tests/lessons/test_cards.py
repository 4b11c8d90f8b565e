"""Cards as text and as a page."""

from __future__ import annotations

from labkit.lessons.cards import Card, Fold, inline


def test_cards_escape_and_mark_code() -> None:
    card = Card(
        title="a < b",
        text="x `y < z` & more\n\nsecond",
        folds=(Fold(summary="s", code="if a < b:\n    c()"),),
    )
    page = card._repr_html_()
    assert "<strong>a &lt; b</strong>" in page
    assert "<p>x <code>y &lt; z</code> &amp; more</p><p>second</p>" in page
    assert "<pre><code>if a &lt; b:\n    c()</code></pre>" in page
    assert str(card) == "a < b\n\nx `y < z` & more\n\nsecond\n\ns\n\n    if a < b:\n        c()"
    assert inline("no code") == "no code"
