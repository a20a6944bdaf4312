"""Programs that use Flowli, and whose tests show how to test such programs."""
