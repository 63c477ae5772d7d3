"""Index a folder of documents and search it: python python_api.py DOCUMENTS INDEX QUERY"""

import sys

from bessemer import Config, index, open_index

documents, folder, query = sys.argv[1:]
stats = index(Config(source=documents, model="minilm", out=folder))
print(f"{stats['n_passages']} passages in {folder}")

for hit in open_index(folder).search(query, top_k=3):
    print(f"\n{hit['score']:.4f}  {hit['passage_id']}  {sorted(hit['lanes'])}\n{hit['text']}")
