# Title

Some text about the project.
