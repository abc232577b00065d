"""An HTTP server that reranks, prunes and attributes: `at2-prune serve`.

It needs the extra `serve`. `at2_prune.server.app.create_app` makes the application. All work of the model runs in the
one thread of `scoring_queue`. The other modules pass requests to that thread, and send its results to the clients.
"""
