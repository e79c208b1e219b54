"""One table of cases, executed against our plugins and against the reference's, and compared.

`cases/` is the table: what a runtime does, and what must come of it. A column of it is somebody who answers: ours, the
reference plugins 1.1.1, the reference plugins 1.9.1. Every difference is in the table too, with its reason; one that is
not, or that is no longer there, fails the test. docs/conformance.md is written from the same table.
"""
