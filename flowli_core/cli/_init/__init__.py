"""`flowli init`: write a small service with jobs, as a start for one's own.

The files are in `templates`: those of all frameworks in `common`, and the others in the folder of their framework.
They are no modules here, because they import each other under the names that they have in the new service.
"""
