// One column of results for each index that was searched. A search is { query, topK, where, columns }, and a column is
// { index, hits, truncated, seconds } or { index, failure }. What was unfolded, explained and judged is kept with a hit.
const LONG = { characters: 500, lines: 5, title: 200 };

function columnElement(search, column) {
  const section = made("section", { "aria-label": column.index }, made("h2", {}, column.index, " ", countOf(column)));
  if (column.failure) section.append(made("p", { role: "alert" }, column.failure.sentence()));
  if (column.truncated) section.append(made("p", { class: "note" }, say("truncated")));
  if (column.hits?.length === 0) section.append(made("p", { class: "note" }, say("nothing")));
  if (column.hits?.length) {
    section.append(made("ol", {}, ...column.hits.map((_, place) => made("li", {}, hitElement(search, column, place)))));
  }
  return section;
}

function countOf(column) {
  return column.hits ? made("small", {}, say("found", column.hits.length, number(column.seconds, 2))) : "";
}

function hitElement(search, column, place) {
  const hit = column.hits[place];
  const cut = hit.text.indexOf("\n"); // indexed text: title or headings, where there are any, then the text itself
  const isTitled = cut > 0 && cut <= LONG.title;
  return made(
    "article", { class: "hit", tabindex: "0" },
    made("div", { class: "head" },
      made("span", { class: "rank" }, `${place + 1}`),
      made("h3", { dir: "auto" }, isTitled ? hit.text.slice(0, cut) : hit.doc_id),
      made("span", { class: "score" }, say("score"), " ", number(hit.score))),
    made("div", { class: "inset" },
      ...textElements(hit, isTitled ? hit.text.slice(cut + 1) : hit.text),
      factsElement(hit), elsewhereElement(search, column, place), actionsElement(search, column, hit)),
  );
}

function textElements(hit, text) {
  const paragraph = made("p", { class: "text", dir: "auto" }, text);
  if (text.length <= LONG.characters && text.split("\n").length <= LONG.lines) return [paragraph];
  const fold = button({ class: "quiet fold" }, "", () => { hit.unfolded = !hit.unfolded; update(); });
  function update() {
    paragraph.classList.toggle("folded", !hit.unfolded);
    fold.setAttribute("aria-expanded", String(Boolean(hit.unfolded)));
    fold.textContent = hit.unfolded ? say("fold") : say("whole", characters(text.length));
  }
  update();
  return [paragraph, made("div", { class: "actions" }, fold)];
}

function factsElement(hit) {
  const lanes = Object.entries(hit.lanes).map(([name, { rank, score }]) => {
    const [lane, place] = say("lane", name, rank, number(score));
    return made("span", { class: "lane" }, made("b", {}, lane), place);
  });
  const metadata = Object.entries(hit.metadata ?? {}).map(([name, value]) =>
    made("span", { class: "metadata" }, made("b", {}, name), " ", value));
  const ids = [["document", hit.doc_id], ["passage", hit.passage_id]].map(([label, id]) =>
    made("span", { class: label }, say(label), " ", made("b", {}, id)));
  return made("div", {}, made("div", { class: "facts" }, ...lanes), made("div", { class: "facts" }, ...ids, ...metadata));
}

// Where the other indexes have the same passage.
function elsewhereElement(search, column, place) {
  const others = search.columns.filter((other) => other !== column && other.hits);
  const told = others.map((other) => {
    const rank = 1 + other.hits.findIndex((hit) => hit.passage_id === column.hits[place].passage_id);
    if (rank === 0) return made("span", { class: "alone" }, say("onlyHere", other.index));
    const higher = rank - (place + 1);
    const where = higher === 0 ? say("same", other.index, rank)
      : say(higher > 0 ? "higher" : "lower", Math.abs(higher), other.index, rank);
    return made("span", { class: "both" }, where);
  });
  return made("div", { class: "facts elsewhere" }, ...told);
}

function actionsElement(search, column, hit) {
  const told = made("span", { role: "status", class: "note" });
  const room = made("div", { class: "explanation", hidden: "" });
  const why = button({ class: "quiet why" }, "", async () => {
    hit.explained = !hit.explained;
    update();
    if (hit.explained) await explain();
  });
  function update() {
    why.textContent = say(hit.explained ? "hideWhy" : "why");
    why.setAttribute("aria-expanded", String(Boolean(hit.explained)));
    room.hidden = !hit.explained;
  }
  async function explain() {
    told.textContent = "";
    why.setAttribute("aria-busy", "true");
    try {
      room.replaceChildren(...explanationElements(await explanationOf(search, column, hit)));
    } catch (error) {
      failed(error, told);
    } finally {
      why.removeAttribute("aria-busy");
    }
  }
  update();
  if (hit.explained) explain();
  return made("div", {}, made("div", { class: "actions" }, why, ...thumbs(search, column, hit, told), told), room);
}

// All passages of a column are explained by one request, which is made once.
async function explanationOf(search, column, hit) {
  column.explained ??= send("search", { ...requestOf(search, column.index), explain: true });
  try {
    const answer = await column.explained;
    const same = answer.hits.find((other) => other.passage_id === hit.passage_id);
    return same ? same.explain : { gone: true };
  } catch (error) {
    column.explained = null;
    throw error;
  }
}

function explanationElements(explanation) {
  if (explanation.gone) return [made("p", {}, say("gone"))];
  if (explanation.note) return [made("p", {}, say("noTokens"))];
  const shared = explanation.sparse.map(({ token, share }) => {
    const bar = made("i");
    bar.style.inlineSize = `${100 * share}%`;
    return made("tr", {}, made("td", {}, token), made("td", { class: "bar" }, bar),
      made("td", { class: "number" }, `${(100 * share).toFixed(1)} %`));
  });
  const matches = explanation.multi_vector.map(({ token, matched, score }) =>
    made("tr", {}, made("td", {}, token), made("td", {}, "→ ", matched), made("td", { class: "number" }, number(score, 3))));
  return [
    made("table", { class: "shared" }, made("caption", {}, say("shared")),
      ...(shared.length ? shared : [made("tr", {}, made("td", {}, say("noShared")))])),
    made("table", { class: "matches" }, made("caption", {}, say("matches")), ...matches),
  ];
}

function thumbs(search, column, hit, told) {
  if (!info.feedback) return [];
  const choices = [["helpful", true, "up"], ["notHelpful", false, "down"]].map(([label, helpful, direction]) => {
    const choice = button({ class: `quiet thumb ${direction}` }, [hand(), say(label)], () => judge(helpful));
    return { choice, helpful };
  });
  async function judge(helpful) {
    told.textContent = "";
    try {
      await send("feedback", { query: search.query, passage_id: hit.passage_id, index: column.index, helpful });
      hit.helpful = helpful;
      told.textContent = say("thanks");
    } catch (error) {
      failed(error, told);
    }
    update();
  }
  function update() {
    for (const { choice, helpful } of choices) choice.setAttribute("aria-pressed", String(hit.helpful === helpful));
  }
  update();
  return choices.map(({ choice }) => choice);
}
