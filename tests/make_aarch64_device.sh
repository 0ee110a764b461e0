#!/usr/bin/env bash
# Makes a device of another kind: an aarch64 root file system whose Python runs under qemu's user-mode emulation.
#   tests/make_aarch64_device.sh FOLDER      then FOLDER/python3 is a Python 3.11 for aarch64 with onnxruntime and numpy
# What runs there computes what an aarch64 processor would; how long it takes says nothing.
set -euo pipefail
folder=$(mkdir -p "${1:?usage: make_aarch64_device.sh FOLDER}" && cd "$1" && pwd)
python=${PYTHON:-python3}
root=$folder/root
[ -x "$folder/python3" ] && exit 0

if ! command -v qemu-aarch64-static > /dev/null || ! command -v mmdebstrap > /dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-user-static mmdebstrap
fi
rm -rf "$root"
mmdebstrap --quiet --arch=arm64 --variant=extract --include=python3.11,libpython3.11-stdlib,libstdc++6,libgcc-s1 \
    bookworm "$root" > /dev/null
# Wheels are unpacked, not installed: pip would have to run under emulation.
"$python" -m pip download --quiet --disable-pip-version-check --only-binary=:all: --python-version 3.11 \
    --implementation cp --abi cp311 --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
    --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 \
    --dest "$folder/wheels" onnxruntime==1.32.0 numpy==2.4.6
site=$root/usr/lib/python3/dist-packages
mkdir -p "$site"
for wheel in "$folder"/wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$site"; done
# onnxruntime reads the processor's features here, and crashes on those of another kind of processor.
mkdir -p "$root/proc"
cat > "$root/proc/cpuinfo" << 'CPUINFO'
processor	: 0
BogoMIPS	: 50.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x4
CPU part	: 0xd0b
CPU revision	: 1
CPUINFO
# The name of this file is what Python takes for its own, and starts again for a process of its own.
cat > "$folder/python3.new" << LAUNCHER
#!/bin/sh
exec qemu-aarch64-static -cpu cortex-a76 -0 "$folder/python3" -L "$root" -E PYTHONHOME=/usr "$root/usr/bin/python3.11" "\$@"
LAUNCHER
chmod +x "$folder/python3.new"
mv "$folder/python3.new" "$folder/python3"
