"""The table of all rules: BuildKit's by its names, and those of buildfront."""

from __future__ import annotations

from typing import NamedTuple

OWN = "buildfront/"
"""How the names of buildfront's own rules begin. They are off until they are asked for."""


class Rule(NamedTuple):
    """A rule.

    ``bad`` and ``good`` are Dockerfiles: the rule finds something in the first one and nothing in the second one.
    ``experimental`` is BuildKit's word for a rule that is off until it is asked for. ``mend`` says what to do.
    """

    name: str
    description: str
    why: str
    mend: str
    bad: str
    good: str
    experimental: bool = False

    @property
    def url(self) -> str:
        """The page of BuildKit's documentation about the rule; empty where there is none."""
        if self.name.startswith(OWN) or self.name == "InvalidBaseImagePlatform":
            return ""
        return f"https://docs.docker.com/go/dockerfile/rule/{_kebab(self.name)}/"

    @property
    def own(self) -> bool:
        """Whether the rule is buildfront's."""
        return self.name.startswith(OWN)


def _kebab(name: str) -> str:
    out = []
    for at, char in enumerate(name):
        after = name[at + 1 : at + 2]
        if char.isupper() and at and (name[at - 1].islower() or after.islower()):
            out.append("-")
        out.append(char.lower())
    return "".join(out)


_BUILDKIT = (
    Rule(
        "StageNameCasing",
        "Stage names should be lowercase",
        "BuildKit makes stage names lower case, so a name with capitals is never the name that is used.",
        "Write the name in lower case.",
        "FROM scratch AS Base\n",
        "FROM scratch AS base\n",
    ),
    Rule(
        "FromAsCasing",
        "The 'as' keyword should match the case of the 'from' keyword",
        "Two spellings in one line are harder to read and to search for.",
        "Write AS as FROM is written.",
        "FROM scratch as base\n",
        "FROM scratch AS base\n",
    ),
    Rule(
        "NoEmptyContinuation",
        "Empty continuation lines will become errors in a future release",
        "An empty line looks like the end of an instruction that goes on.",
        "Remove the empty line, or end the instruction before it.",
        "FROM scratch\nCOPY a \\\n\n  /\n",
        "FROM scratch\nCOPY a \\\n  /\n",
    ),
    Rule(
        "ConsistentInstructionCasing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
        "One spelling is easier to read and to search for. The spelling that most instructions have counts.",
        "Write the instruction like the others.",
        "FROM scratch\nCOPY a /\ncopy b /\n",
        "FROM scratch\nCOPY a /\nCOPY b /\n",
    ),
    Rule(
        "DuplicateStageName",
        "Stage names should be unique",
        "The later stage takes the name; the earlier one can only be reached by its number.",
        "Give each stage a name of its own.",
        "FROM scratch AS a\nFROM scratch AS a\n",
        "FROM scratch AS a\nFROM scratch AS b\n",
    ),
    Rule(
        "ReservedStageName",
        "Reserved words should not be used as stage names",
        "`scratch` and `context` have a meaning of their own, so the stage can't be reached by this name.",
        "Choose another name.",
        "FROM scratch AS context\n",
        "FROM scratch AS files\n",
    ),
    Rule(
        "JSONArgsRecommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
        "Without brackets a shell starts the program, and the shell gets the signal that should stop the program.",
        "Write the words as a JSON array. If a shell is meant, say so with SHELL.",
        "FROM scratch\nCMD app --serve\n",
        'FROM scratch\nCMD ["app", "--serve"]\n',
    ),
    Rule(
        "MaintainerDeprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
        "MAINTAINER sets a field that few programs read.",
        "Set the label org.opencontainers.image.authors.",
        "FROM scratch\nMAINTAINER me@example.org\n",
        'FROM scratch\nLABEL org.opencontainers.image.authors="me@example.org"\n',
    ),
    Rule(
        "UndefinedArgInFrom",
        "FROM command must use declared ARGs",
        "FROM sees only arguments that are declared above the first FROM. Any other one is empty.",
        "Declare the argument above the first FROM.",
        "FROM busybox:1${SUFFIX}\n",
        "ARG SUFFIX=.36\nFROM busybox:1${SUFFIX}\n",
    ),
    Rule(
        "WorkdirRelativePath",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the "
        "base image changes",
        "A relative directory begins where the base image ended, and the next version of it may end elsewhere.",
        "Write the whole path.",
        "FROM scratch\nWORKDIR app\n",
        "FROM scratch\nWORKDIR /app\n",
    ),
    Rule(
        "UndefinedVar",
        "Variables should be defined before their use",
        "A variable that is not set is replaced by nothing, without an error.",
        "Correct the name, or declare it with ARG or ENV above this line.",
        "FROM scratch\nARG SOURCES=src\nCOPY $SOURCE /\n",
        "FROM scratch\nARG SOURCES=src\nCOPY $SOURCES /\n",
    ),
    Rule(
        "MultipleInstructionsDisallowed",
        "Multiple instructions of the same type should not be used in the same stage",
        "Only the last CMD, ENTRYPOINT and HEALTHCHECK of a stage counts.",
        "Remove the ones before the last.",
        'FROM scratch\nCMD ["one"]\nCMD ["two"]\n',
        'FROM scratch\nCMD ["two"]\n',
    ),
    Rule(
        "LegacyKeyValueFormat",
        "Legacy key/value format with whitespace separator should not be used",
        "The old form takes the whole rest of the line as the value, which later changes easily overlook.",
        "Write NAME=VALUE, with quotes around a value with blanks.",
        "FROM scratch\nENV GREETING hello world\n",
        'FROM scratch\nENV GREETING="hello world"\n',
    ),
    Rule(
        "InvalidBaseImagePlatform",
        "Base image platform does not match expected target platform",
        "Programs of another platform don't run, or run in an emulation.",
        "Use an image that exists for the platform, or choose the platform with --platform.",
        "",
        "",
    ),
    Rule(
        "RedundantTargetPlatform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        "FROM uses the target platform anyway.",
        "Remove the flag.",
        "FROM --platform=$TARGETPLATFORM busybox\n",
        "FROM busybox\n",
    ),
    Rule(
        "SecretsUsedInArgOrEnv",
        "Sensitive data should not be used in the ARG or ENV commands",
        "Build arguments and variables are in the image's config and history, where everybody who has the image can "
        "read them.",
        "Use RUN --mount=type=secret. The value of such a name may be empty or harmless: then skip the rule here.",
        "FROM scratch\nARG API_TOKEN\n",
        "FROM busybox\nRUN --mount=type=secret,id=token cat /run/secrets/token >/dev/null\n",
    ),
    Rule(
        "InvalidDefaultArgInFrom",
        "Default value for global ARG results in an empty or invalid base image name",
        "The Dockerfile can't be built without --build-arg.",
        "Give the argument a default with which it can.",
        "ARG VERSION\nFROM busybox:$VERSION\n",
        "ARG VERSION=1.36\nFROM busybox:$VERSION\n",
    ),
    Rule(
        "FromPlatformFlagConstDisallowed",
        "FROM --platform flag should not use a constant value",
        "The stage has this platform also when the image is built for another one.",
        "Use $BUILDPLATFORM or leave out the flag. A name with the platform in it (`AS build-arm64`) says that it is "
        "meant.",
        "FROM --platform=linux/amd64 busybox AS build\n",
        "FROM --platform=$BUILDPLATFORM busybox AS build\n",
    ),
    Rule(
        "CopyIgnoredFile",
        "Attempting to Copy file that is excluded by .dockerignore",
        "The ignore file leaves the file out of the context, so the build fails.",
        "Remove the pattern from the ignore file, or add an exception with `!`.",
        "FROM scratch\nCOPY ignored /\n",
        "FROM scratch\nCOPY kept /\n",
    ),
    Rule(
        "InvalidDefinitionDescription",
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is "
        "not intended to be a description comment, add an empty line or comment between the instruction and the "
        "comment.",
        "--call=outline and --call=targets show the comment above ARG and FROM, if it begins with the name.",
        "Begin the comment with the name, or separate it with a line that has only `#`.",
        "FROM scratch\n# how verbose it is\nARG LEVEL=1\n",
        "FROM scratch\n# LEVEL is how verbose it is\nARG LEVEL=1\n",
        experimental=True,
    ),
    Rule(
        "ExposeProtoCasing",
        "Protocol in EXPOSE instruction should be lowercase",
        "The image's config has the protocol in lower case.",
        "Write tcp, udp or sctp.",
        "FROM scratch\nEXPOSE 80/TCP\n",
        "FROM scratch\nEXPOSE 80/tcp\n",
    ),
    Rule(
        "ExposeInvalidFormat",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a "
        "future release",
        "EXPOSE names ports of the container. An address and a port of the host are ignored.",
        "Write only the port of the container.",
        "FROM scratch\nEXPOSE 8080:80\n",
        "FROM scratch\nEXPOSE 80\n",
    ),
)

_OURS = (
    Rule(
        OWN + "AptGetWithoutUpdate",
        "apt-get install needs apt-get update in the same RUN",
        "An update in a RUN of its own is cached: later the list is old, and packages that it names are gone.",
        "Write apt-get update && apt-get install in one RUN.",
        "FROM debian:12\nRUN apt-get install -y curl\n",
        "FROM debian:12\nRUN apt-get update && apt-get install -y curl\n",
    ),
    Rule(
        OWN + "InstallAsksQuestions",
        "Package managers should not ask questions",
        "A build has no terminal, so the question is answered with no and the step fails.",
        "Add -y.",
        "FROM debian:12\nRUN apt-get update && apt-get install curl\n",
        "FROM debian:12\nRUN apt-get update && apt-get install -y curl\n",
    ),
    Rule(
        OWN + "AptGetRecommends",
        "apt-get install should leave out recommended packages",
        "Recommended packages make the image larger, often by more than what was asked for.",
        "Add --no-install-recommends.",
        "FROM debian:12\nRUN apt-get update && apt-get install -y curl\n",
        "FROM debian:12\nRUN apt-get update && apt-get install -y --no-install-recommends curl\n",
    ),
    Rule(
        OWN + "AptInScript",
        "apt is made for terminals, scripts should use apt-get",
        "The options and the output of apt may change from version to version.",
        "Use apt-get or apt-cache.",
        "FROM debian:12\nRUN apt update\n",
        "FROM debian:12\nRUN apt-get update\n",
    ),
    Rule(
        OWN + "ApkCache",
        "apk add should not leave its index in the layer",
        "Without --no-cache the index stays in the layer, or is out of date.",
        "Use apk add --no-cache.",
        "FROM alpine:3\nRUN apk add curl\n",
        "FROM alpine:3\nRUN apk add --no-cache curl\n",
    ),
    Rule(
        OWN + "CacheInLayer",
        "The caches of package managers should not stay in a layer",
        "The image is larger by files that it never uses.",
        "Remove the cache in the same RUN, or put it into a RUN --mount=type=cache.",
        "FROM debian:12\nRUN apt-get update && apt-get install -y curl\n",
        "FROM debian:12\nRUN apt-get update && apt-get install -y curl && rm -rf /var/lib/apt/lists/*\n",
    ),
    Rule(
        OWN + "LatestTag",
        "Base images should have a tag other than latest",
        "Another build on another day has another base image.",
        "Name a version.",
        "FROM debian\n",
        "FROM debian:12\n",
    ),
    Rule(
        OWN + "UnpinnedDigest",
        "Base images should have a digest",
        "A tag can be moved, a digest can't.",
        "Add the digest: NAME:TAG@sha256:…",
        "FROM debian:12\n",
        "FROM debian:12@sha256:" + "0123456789abcdef" * 4 + "\n",
    ),
    Rule(
        OWN + "Sudo",
        "RUN should not use sudo",
        "sudo is for people at a terminal. It changes the environment, and in the image it is one more way to root.",
        "Use USER root before the instruction, and USER again after it.",
        "FROM debian:12\nRUN sudo id\n",
        "FROM debian:12\nUSER root\nRUN id\n",
    ),
    Rule(
        OWN + "CdInRun",
        "WORKDIR should be used to change the directory",
        "cd works only until the end of its RUN.",
        "Use WORKDIR before the RUN.",
        "FROM debian:12\nRUN cd /src && make\n",
        "FROM debian:12\nWORKDIR /src\nRUN make\n",
    ),
    Rule(
        OWN + "AddForCopy",
        "COPY should be used where ADD does the same",
        "ADD unpacks archives and fetches URLs. COPY says that only a file is meant.",
        "Use COPY.",
        "FROM scratch\nADD settings.json /\n",
        "FROM scratch\nCOPY settings.json /\n",
    ),
    Rule(
        OWN + "SecretInLayer",
        "Secrets should not be copied into an image",
        "A file that was copied stays in its layer, also when a later instruction removes it.",
        "Use RUN --mount=type=secret, and exclude the file in .dockerignore.",
        "FROM scratch\nCOPY id_rsa /root/.ssh/\n",
        "FROM scratch\nCOPY id_rsa.pub /root/.ssh/\n",
    ),
    Rule(
        OWN + "CopyBeforeDependencies",
        "The list of dependencies should be copied before the other files",
        "Every change of any file makes the dependencies be installed again.",
        "Copy the list first, install, and then copy the rest.",
        "FROM python:3.12\nCOPY . .\nRUN pip install --no-cache-dir -r requirements.txt\n",
        "FROM python:3.12\nCOPY requirements.txt .\nRUN pip install --no-cache-dir -r requirements.txt\nCOPY . .\n",
    ),
    Rule(
        OWN + "RootUser",
        "The last USER should not be root",
        "A fault in the program then has the rights of root in the container.",
        "End the stage with USER and an ordinary user.",
        "FROM debian:12\nUSER root\n",
        "FROM debian:12\nUSER 1000\n",
    ),
    Rule(
        OWN + "PipeWithoutPipefail",
        "A pipe should fail when one of its commands fails",
        "The exit status of a pipe is that of its last command, so a failed download is not noticed.",
        'Use SHELL ["/bin/bash", "-o", "pipefail", "-c"], or set -o pipefail in a shell that knows it.',
        "FROM debian:12\nRUN wget -O - https://example.org/key | apt-key add -\n",
        'FROM debian:12\nSHELL ["/bin/bash", "-o", "pipefail", "-c"]\n'
        "RUN wget -O - https://example.org/key | apt-key add -\n",
    ),
    Rule(
        OWN + "DownloadToShell",
        "Programs from the network should not go straight into a shell",
        "Whatever the server sends today is executed, and half of it if the connection breaks.",
        "Download the file, check its digest (ADD --checksum), and run it then.",
        "FROM debian:12\nRUN curl https://example.org/install.sh | sh\n",
        "FROM debian:12\nADD --checksum=sha256:"
        + "0123456789abcdef" * 4
        + " https://example.org/install.sh /tmp/\n"
        "RUN sh /tmp/install.sh\n",
    ),
    Rule(
        OWN + "OtherReaders",
        "Other programs should see the same instructions",
        "Many programs read Dockerfiles with dockerfile-parse, which sees other instructions here.",
        "Write the lines so that both read them alike.",
        "FROM scratch\nCOPY a \\\n\n  /\n",
        "FROM scratch\nCOPY a \\\n  /\n",
    ),
)

RULES: dict[str, Rule] = {rule.name: rule for rule in (*_BUILDKIT, *_OURS)}
"""All rules by name, in the order of the documentation."""
