"""An HTTP server that reranks, prunes and attributes: `at2-prune serve`.

It needs the extra `serve`. `at2_prune.server.app.create_app` makes the application. All work of the model runs in one
thread, `scoring_queue`; the other modules are what stands between a client and that thread.
"""
