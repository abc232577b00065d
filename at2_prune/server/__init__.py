"""An HTTP server that reranks, prunes and attributes: `at2-prune serve`.

The server needs the extra `serve`. `at2_prune.server.app.create_app` makes the application. The model runs in one
thread, the thread of `scoring_queue`. The other modules pass requests to this thread, and send the results to clients.
"""
