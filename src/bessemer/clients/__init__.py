"""A tuned model and an index as other frameworks know them: `langchain`, `llamaindex`, `mteb`, each an extra."""
