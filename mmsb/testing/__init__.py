"""What tests of mmsb and of its plugins build on."""
