"""An index as a LangChain retriever, a model as embeddings: python langchain_retriever.py INDEX QUERY"""

import sys

from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore

from bessemer.clients.langchain import BessemerEmbeddings, BessemerRetriever

location, query = sys.argv[1:]
retriever = BessemerRetriever(location=location, top_k=3)


def as_context(documents: list[Document]) -> str:
    """What a language model would be given to answer from."""
    return "\n\n".join(f"[{document.metadata['doc_id']}] {document.page_content}" for document in documents)


print((retriever | RunnableLambda(as_context)).invoke(query))

# The hybrid index finds more than vectors alone; for a vector store that you have already, the embeddings:
store = InMemoryVectorStore(BessemerEmbeddings("minilm"))
store.add_documents(retriever.invoke(query))
print("\nnearest by vectors:", store.similarity_search(query, k=1)[0].id)
