"""The table of claims and verdicts in README.md, from the records: `make claims`."""

from pathlib import Path

from jaxrl.reproduce.report import BEGIN, END, readme_table

README = Path(__file__).parents[1] / "README.md"


def main() -> None:
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise SystemExit(f"{README.name} has not the two marks that the table stands between: {BEGIN} and {END}")
    README.write_text(before + readme_table() + after, encoding="utf-8")
    print(f"{README.name}: {readme_table().count('](experiments/')} claims")


if __name__ == "__main__":
    main()
