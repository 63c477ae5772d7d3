"""An index as a LlamaIndex retriever, and its model as a LlamaIndex embedding: python llamaindex_retriever.py INDEX QUERY"""

import sys

from bessemer.clients.llamaindex import BessemerEmbedding, BessemerRetriever

location, query = sys.argv[1:]
retriever = BessemerRetriever(location, top_k=3)
for found in retriever.retrieve(query):  # a query engine: RetrieverQueryEngine.from_args(retriever, llm=...)
    print(f"{found.score:.4f}  {found.node.node_id}\n{found.node.text}\n")

embedding = BessemerEmbedding("minilm")  # or for all of LlamaIndex: Settings.embed_model = BessemerEmbedding(...)
near, far = embedding.get_text_embedding_batch([found.node.text, "something else altogether"])
asked = embedding.get_query_embedding(query)
print(f"similarity: {embedding.similarity(asked, near):.3f}, of something else {embedding.similarity(asked, far):.3f}")
