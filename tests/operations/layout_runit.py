"""The layout under runit."""

from operations.layout_on_a_machine import main

if __name__ == "__main__":
    main("runit")
