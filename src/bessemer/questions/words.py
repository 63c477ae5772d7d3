"""Word lists: what carries no meaning, and headings that could stand anywhere."""

from __future__ import annotations

_ENGLISH = """
a about above after again all almost already also although always am among an and another any are aren't as at
be became because become been before being below best better between both but by came can can't cannot come
could couldn't did didn't do does doesn't doing don't done down during each either else etc even ever every few
first for from further get gets getting give given go goes going got had has have haven't having he her here
hers him himself his how however i i'd i'll i'm i've if in instead into is isn't it it's its itself just keep
kind know last later least less let let's like likely look lot made mainly make makes making many may maybe me
mean might mine more most mostly much must my need needs neither never new next no none nor not nothing now of
off often ok on once one only onto or other others otherwise our out over own part per perhaps please possible
put rather really same say see seem seen several shall she should since so some something sometimes soon still
such take than that that's the their them themselves then there there's these they they're thing things this
those though three through thus to together too two under until up upon us use used useful uses using usually
various very via want wants was wasn't way we we'll we're well were what when where whether which while who
whole whose why will with within without won't work works would yes yet you you'd you'll you're you've your
yours
"""
_CHINESE = """
的 了 和 是 在 有 我 他 她 它 们 我们 你 你们 他们 它们 这 那 这个 那个 这些 那些 这里 那里 这样 那样 这种 一个
一些 一种 一样 不 没 没有 也 都 就 还 又 再 很 更 最 与 及 以及 或 或者 并 并且 而 而且 但 但是 因为 所以 因此
如果 那么 然后 可以 可能 能 能够 会 要 需要 应该 必须 把 被 让 给 对 对于 关于 从 到 为 为了 于 以 用 使用 通过
根据 按照 由 由于 其 其中 其他 之 之一 之后 之前 时 时候 后 前 上 下 中 里 内 外 等 等等 什么 怎么 如何 哪 哪些
哪里 为什么 吗 呢 吧 啊 只 只是 只有 只要 仅 已 已经 将 正在 着 过 得 地 每 每个 各 各个 某 某些 此 该 同 同样
同时 例如 比如 像 如 如下 即 即使 虽然 尽管 而是 不是 不会 不能 不要 还是 还有 就是 也是 都是 这是 那是 是否 一
二 三 两 个 种 次 些 请 来 去 做 说 看 想 知道 进行 成为 作为 非常 更多 所 甚至 完全 直接 相同 不同 包括 包含
提供 用于 用来 多个 任何 所有 全部 部分 一部分 旨在 参阅 详细 介绍
"""
STOP_WORDS = frozenset((*_ENGLISH.split(), *_CHINESE.split()))

_GENERIC = """
about, about the company, abstract, acknowledgements, appendix, background, breaking changes, changelog
conclusion, conclusions, contact information, contact us, contents, details, docs, example, examples
external links, faq, features, fixes, forward looking statements, further reading, general, getting started
home, index, install, installation, internal, introduction, item 9 01 financial statements and exhibits, license
links, misc, more examples, more info, more information, next steps, note, notes, other, others, overview, recap
refactors, reference, references, release notes, resources, safe harbor statement, see also, steps, summary
table of contents, technical details, translations, upgrades, usage, welcome, what s next, 下一步, 产品概述
介绍, 使用方法, 使用说明, 例子, 入门, 关于我们, 其他, 其它, 前提条件, 前言, 功能介绍, 参考, 参考文献, 参考资料
后续步骤, 回顾, 基本信息, 复习, 安装, 小结, 常见问题, 引言, 快速开始, 总结, 技术细节, 操作步骤, 更多信息
更多示例, 更新日志, 概述, 步骤, 注意, 注意事项, 版本说明, 特性, 用法, 目录, 相关文档, 相关链接, 示例, 简介, 结论
联系我们, 背景, 背景信息, 致谢, 许可证, 说明, 附录
"""
GENERIC_HEADINGS = frozenset(heading.strip() for heading in _GENERIC.replace("\n", ", ").split(", ") if heading.strip())
"""As people write them; compare normal forms."""

THIS = "(?<![脚版样成文标剧课书基根原资副日])本"
"""A pattern: the Chinese character for `this`, where it does not end another word, such as the one for a script."""
