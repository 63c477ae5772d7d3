"""An index as a LlamaIndex retriever, a model as embedding: python llamaindex_retriever.py INDEX QUERY"""

import sys

from bessemer.clients.llamaindex import BessemerEmbedding, BessemerRetriever

location, query = sys.argv[1:]
retriever = BessemerRetriever(location, top_k=3)
found = retriever.retrieve(query)  # in a query engine: RetrieverQueryEngine.from_args(retriever, llm=...)
for node in found:
    print(f"{node.score:.4f}  {node.node_id}\n{node.text}\n")

embedding = BessemerEmbedding("minilm")  # for all of LlamaIndex: Settings.embed_model = BessemerEmbedding("minilm")
asked = embedding.get_query_embedding(query)
for text in (found[0].text, "Something else altogether."):
    print(f"{embedding.similarity(asked, embedding.get_text_embedding(text)):.3f}  {text.splitlines()[-1]}")
