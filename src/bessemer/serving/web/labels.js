// What the page says, in the browser's language or in the one that was chosen.
const LABELS = {
  en: {
    otherLanguage: "中文",
    search: "Search", searching: "Searching…", placeholder: "What are you looking for?",
    indexes: "In", topK: "Results", where: "Only where",
    keys: "/ search · Enter go · ↓ ↑ or j k from result to result · ← → between columns",
    keyAsked: "This service asks for a key. It stays in this tab and goes into no address.",
    keyGiven: "Use this key", forget: "Forget the key",
    keyWrong: "The service does not know this key. Give another one.",
    keyUnsendable: "A key is plain letters, digits and signs without blanks. Give another one.",
    noIndex: "No index is served here. Start with: bessemer serve --index FOLDER",
    noneChosen: "Choose at least one index.", noQuery: "Write what you are looking for.",
    unreachable: "The service cannot be reached. Is it running?",
    slow: "The service did not answer in time. Try again, or with fewer results.",
    busy: (wait) => `Too much is waiting at the service. ${wait}`,
    unavailable: (told, wait) => `The service cannot do this now (${told}). ${wait}`,
    wait: (seconds) => (seconds ? `Try again in ${seconds} s.` : "Try again in a moment."),
    refused: (status, told) => `The service refused (${status}): ${told}`,
    broken: (status) => `The service failed (${status}). Its log says why.`,
    found: (n, seconds) => `${n} ${n === 1 ? "passage" : "passages"} in ${seconds} s`,
    nothing: "Nothing was found.",
    truncated: "The query is longer than the model reads; its end was not searched for.",
    whole: (n) => `Show all (${n} characters)`, fold: "Show less",
    passage: "passage", document: "document", score: "score", lane: (name, rank, score) => [name, ` #${rank} (${score})`],
    higher: (n, name, rank) => `${n} ${n === 1 ? "place" : "places"} higher than in ${name} (#${rank})`,
    lower: (n, name, rank) => `${n} ${n === 1 ? "place" : "places"} lower than in ${name} (#${rank})`,
    same: (name, rank) => `same place as in ${name} (#${rank})`, onlyHere: (name) => `not found by ${name}`,
    why: "Explain", hideWhy: "Hide explanation",
    noTokens: "Which tokens matched is known of unified models only; the lanes above say what found this passage.",
    gone: "The index has changed since this search. Search again.",
    shared: "Shared tokens, by their part of the sparse score", noShared: "no shared tokens",
    matches: "Best match of every token of the query",
    helpful: "Helpful", notHelpful: "Not helpful", thanks: "Noted. Thank you.",
    about: "About this service",
    model: "Model", fingerprint: "Fingerprint", outputs: "Outputs", similarity: "Similarity", dimension: "Dimension",
    reads: "Reads", lengths: (passage, query) => `${passage} tokens of a passage, ${query} of a query`,
    reranker: "Reranker", versions: "Versions", index: "Index", passages: "Passages", lanes: "Lanes", engine: "Engine",
    task: "Task", built: "Built",
  },
  zh: {
    otherLanguage: "English",
    search: "搜索", searching: "正在搜索…", placeholder: "要找什么？",
    indexes: "索引", topK: "结果数", where: "筛选条件",
    keys: "/ 搜索框 · Enter 搜索 · ↓ ↑ 或 j k 切换结果 · ← → 切换列",
    keyAsked: "此服务需要密钥。密钥只保存在本标签页中，不会出现在网址里。",
    keyGiven: "使用此密钥", forget: "清除密钥",
    keyWrong: "服务不认识这个密钥，请换一个。",
    keyUnsendable: "密钥只能由字母、数字和符号组成，不能有空格，请换一个。",
    noIndex: "此服务没有索引。启动方式：bessemer serve --index FOLDER",
    noneChosen: "请至少选择一个索引。", noQuery: "请输入要找的内容。",
    unreachable: "无法连接服务，它在运行吗？",
    slow: "服务未能及时回答。请重试，或减少结果数。",
    busy: (wait) => `服务正忙，等待的请求过多。${wait}`,
    unavailable: (told, wait) => `服务暂时不可用（${told}）。${wait}`,
    wait: (seconds) => (seconds ? `请在 ${seconds} 秒后重试。` : "请稍后重试。"),
    refused: (status, told) => `服务拒绝了请求（${status}）：${told}`,
    broken: (status) => `服务出错（${status}），原因见服务日志。`,
    found: (n, seconds) => `${n} 段，用时 ${seconds} 秒`,
    nothing: "没有找到。",
    truncated: "查询超出模型可读的长度，末尾部分未参与搜索。",
    whole: (n) => `显示全部（${n} 字）`, fold: "收起",
    passage: "段落", document: "文档", score: "得分", lane: (name, rank, score) => [name, ` 第 ${rank}（${score}）`],
    higher: (n, name, rank) => `比 ${name} 高 ${n} 位（第 ${rank}）`,
    lower: (n, name, rank) => `比 ${name} 低 ${n} 位（第 ${rank}）`,
    same: (name, rank) => `与 ${name} 同名次（第 ${rank}）`, onlyHere: (name) => `${name} 未找到`,
    why: "解释", hideWhy: "收起解释",
    noTokens: "只有统一模型知道哪些词元匹配；上面的各通道说明了由谁找到。",
    gone: "搜索之后索引已更新，请重新搜索。",
    shared: "共有词元，按其在稀疏得分中的份额", noShared: "没有共有词元",
    matches: "查询中每个词元的最佳匹配",
    helpful: "有帮助", notHelpful: "没有帮助", thanks: "已记录，谢谢。",
    about: "关于此服务",
    model: "模型", fingerprint: "指纹", outputs: "输出", similarity: "相似度", dimension: "维度",
    reads: "可读长度", lengths: (passage, query) => `段落 ${passage} 个词元，查询 ${query} 个`,
    reranker: "重排模型", versions: "版本", index: "索引", passages: "段落数", lanes: "通道", engine: "引擎",
    task: "任务", built: "建立时间",
  },
};

let language = remembered("language") ?? (navigator.languages.find((tag) => /^(en|zh)\b/i.test(tag)) ?? "en").slice(0, 2).toLowerCase();
if (!Object.hasOwn(LABELS, language)) language = "en";

function say(name, ...values) {
  const label = LABELS[language][name];
  return typeof label === "function" ? label(...values) : label;
}

// Of this tab alone; a browser that keeps nothing is no fault.
function remembered(name) {
  try {
    return sessionStorage.getItem(`bessemer.${name}`);
  } catch {
    return null;
  }
}

function remember(name, value) {
  try {
    if (value === null) sessionStorage.removeItem(`bessemer.${name}`);
    else sessionStorage.setItem(`bessemer.${name}`, value);
  } catch {
    // memory has it
  }
}
